"""Re-identification networks: an appearance vector from the crop of one person."""

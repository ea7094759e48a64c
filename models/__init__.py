"""Networks, losses, trackers and metrics: what computes."""

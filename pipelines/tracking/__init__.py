"""`jde track`: videos to committed tracks, on Ray or in one process."""

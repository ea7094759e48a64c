"""`jde count`: events and counts of finished tracks."""

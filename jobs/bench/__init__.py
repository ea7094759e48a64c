"""`jde bench`: the parts measured on this machine."""

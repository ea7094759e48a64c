"""`jde bench`: figures and tables of the paper."""

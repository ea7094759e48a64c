"""`jde bench`: measures the parts of jde-ray on this machine."""

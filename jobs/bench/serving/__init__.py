"""`jde bench serve`: load, overload, kills and soaks of the service."""

"""`jde bench engines`: one network in several engines and precisions, in one run."""

"""`jde bench folds`: recipes trained without some scenes and scored on these."""

"""`jde bench gpu`: what a GPU does with the network, and where the time goes."""

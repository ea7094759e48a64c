"""`jde serve`: live streams tracked behind Ray Serve, one frame per call."""

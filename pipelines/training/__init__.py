"""`jde train`: labelled images to weights, on one or many trainers."""

"""`jde train`: trains weights on labelled images, with one or more trainers."""

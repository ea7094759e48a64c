"""`jde data check`: what the sources of a recipe hold, and what is wrong with them."""

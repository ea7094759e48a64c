"""Networks that foretell how people move, in torch; association runs them in numpy."""

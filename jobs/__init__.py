"""Commands: one module per verb of `jde`."""

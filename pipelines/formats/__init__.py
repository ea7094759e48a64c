"""File formats: one module per format; no other module names its columns."""

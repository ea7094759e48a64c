"""File formats: one module per format, the only place that names its columns."""

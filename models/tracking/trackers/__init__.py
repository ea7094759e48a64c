"""One module per association."""

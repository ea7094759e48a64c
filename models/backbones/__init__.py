"""Feature extractors, shared by all networks."""

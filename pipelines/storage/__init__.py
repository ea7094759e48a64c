"""Objects of a run: read, written, and created only if absent (the commit)."""

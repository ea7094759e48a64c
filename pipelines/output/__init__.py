"""OUT, the folder of a run: layout, records, checkpoints and commits."""

"""The folder of a run: its layout, records, checkpoints and commits."""

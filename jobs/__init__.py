"""Decisions: what a user typed becomes a configuration and runs a pipeline. Imported by none."""

"""Decisions: what a user typed becomes a configuration and runs a pipeline. Nothing imports jobs."""

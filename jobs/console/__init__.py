"""Shared by all verbs: flags, settings, progress, exit codes."""

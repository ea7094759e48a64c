"""Finds and tracks people in a program's own frames, without Ray, files or a service."""

"""Computation: networks, losses, trackers and metrics."""

"""Refinement of finished trajectories."""

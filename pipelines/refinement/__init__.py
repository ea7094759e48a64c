"""Refinement of the tracks of finished videos, offline."""

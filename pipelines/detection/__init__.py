"""Frames to detections: loaded networks and their settings."""

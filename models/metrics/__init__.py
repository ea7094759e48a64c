"""Scores of detections and tracks: arrays in, numbers out."""

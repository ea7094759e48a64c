"""Detection: loaded networks, their settings, and detections in source pixels."""

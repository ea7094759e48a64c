"""Online association: turns detections into tracks, frame by frame."""

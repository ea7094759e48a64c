"""Online association: detections of one frame after the other to tracks."""

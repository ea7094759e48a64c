"""`jde eval` and `jde tune`: tracks, detections and embeddings scored against ground truth."""

"""`jde eval` and `jde tune`: score tracks, detections and embeddings against ground truth."""

"""The JDE network: one pass gives boxes, scores and appearance embeddings."""

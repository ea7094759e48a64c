"""The JDE network: boxes and embeddings in one pass."""

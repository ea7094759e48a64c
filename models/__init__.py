"""Computation on arrays and tensors: network, association, metrics, synthetic scenes."""

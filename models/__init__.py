"""Computation on arrays and tensors: the network, the association, the metrics, synthetic scenes."""

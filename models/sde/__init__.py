"""Separate detection and embedding: two ONNX networks in place of the joint one."""

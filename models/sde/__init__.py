"""Separate detection and embedding: two ONNX networks instead of the joint one."""

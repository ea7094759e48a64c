"""Synthetic street scenes with ground truth, drawn with numpy and OpenCV."""

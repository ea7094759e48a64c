"""Synthetic street scenes with people whose boxes and ids are known. numpy and OpenCV only."""

"""Teachers: labels and appearance targets from ONNX models, used only while training.

A person detector finds people in unlabelled frames (and unlabelled people in partly labelled
ones); a re-identification network gives every box, with or without an identity, the appearance
vector that our embedding is distilled from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.sde.declaration import DetectorDeclaration, NetworkDeclaration
from models.sde.network import AppearanceEmbedder, PersonDetector
from models.structures import FloatArray

__all__ = ["AppearanceEmbedder", "PersonDetector", "open_appearance", "open_detector"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def open_detector(path: Path) -> PersonDetector:
    """FastestDet (COCO): the whole picture and, where it is wide, its two halves; one CPU thread.

    Raises:
        ValueError: If onnxruntime is not installed or the file cannot be used.
    """
    return PersonDetector(
        DetectorDeclaration(file=path, layout="fastestdet", colour="bgr", views="halves")
    )


def open_appearance(path: Path) -> AppearanceEmbedder:
    """OSNet: an L2-normalised 512-vector of each box; one CPU thread.

    Raises:
        ValueError: If onnxruntime is not installed or the file cannot be used.
    """
    return AppearanceEmbedder(NetworkDeclaration(file=path, mean=IMAGENET_MEAN, std=IMAGENET_STD))


def principal_directions(vectors: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Mean and the `(512, width)` directions of largest variance of teacher vectors.

    Projected and normalised again, they keep the teacher's similarities in fewer dimensions. Each
    direction points to where its largest component is positive, so that the same vectors always
    give the same ones.
    """
    mean = vectors.mean(0)
    _, _, found = np.linalg.svd(vectors - mean, full_matrices=False)
    directions = found[:width]
    largest = np.abs(directions).argmax(1)[:, None]
    return mean, (directions * np.sign(np.take_along_axis(directions, largest, 1))).T

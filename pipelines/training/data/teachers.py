"""Teachers: labels and appearance targets from other networks, used only while training.

A person detector finds people in unlabelled frames (and unlabelled people in partly labelled
ones); a re-identification network adds to every box, with or without an identity, the appearance
vector that our embedding is distilled from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from jde_ray.models.jde.nanodet import NanoDet, read_nanodet
from jde_ray.models.letterbox import fitted_size
from jde_ray.models.sde.declaration import DetectorDeclaration, NetworkDeclaration
from jde_ray.models.sde.layouts import suppress
from jde_ray.models.sde.network import AppearanceEmbedder, PersonDetector, views_of
from jde_ray.models.structures import FloatArray

__all__ = ["AppearanceEmbedder", "DetectorTeacher", "open_appearance", "open_detector"]

NANODET_SIZE = (640, 384)  # its input has this area and the picture's shape
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DetectorTeacher(Protocol):
    """Finds people in a picture."""

    def detect(
        self, picture: NDArray[np.uint8], score_threshold: float
    ) -> tuple[FloatArray, FloatArray]:
        """`(N, 4)` corners and `(N,)` scores above the threshold, of a uint8 RGB picture."""


class NanoDetTeacher:
    """NanoDet-g (COCO) on the whole picture and, where it is wide, on its two halves.

    Args:
        network: The detector.
    """

    def __init__(self, network: NanoDet) -> None:
        self._network = network

    def detect(
        self, picture: NDArray[np.uint8], score_threshold: float
    ) -> tuple[FloatArray, FloatArray]:
        """Boxes and scores of people, as `DetectorTeacher` declares."""
        height, width = picture.shape[:2]
        found = [self._view(picture, *v, score_threshold) for v in views_of(width, height)]
        tlbr = np.concatenate([boxes for boxes, _ in found])
        scores = np.concatenate([score for _, score in found])
        kept = suppress(tlbr, scores, 0.5)
        return tlbr[kept], scores[kept]

    @torch.inference_mode()
    def _view(
        self, picture: NDArray[np.uint8], left: int, right: int, score_threshold: float
    ) -> tuple[FloatArray, FloatArray]:
        view = picture[:, left:right]
        height, width = view.shape[:2]
        size = fitted_size(width, height, NANODET_SIZE)
        resized = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        images = torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255
        boxes, scores = (part[0].numpy() for part in self._network(images))
        large = scores > score_threshold
        to_source = np.array([width / size[0], height / size[1]] * 2, np.float32)
        tlbr = (boxes[large] * to_source).clip(0, [width, height] * 2)
        return (tlbr + np.array([left, 0, left, 0])).astype(np.float32), scores[large]


def open_detector(path: Path) -> DetectorTeacher:
    """NanoDet-g (`.json`) or FastestDet (`.onnx`), both trained on COCO; one CPU thread.

    Both search the whole picture and, if it is wide, its two halves.

    Raises:
        ValueError: If the file cannot be used, or onnxruntime is needed and not installed.
    """
    if path.suffix == ".json":
        return NanoDetTeacher(read_nanodet(path))
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

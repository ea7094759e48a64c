"""Teachers: other networks that provide labels and appearance targets during training.

A person detector finds people in unlabelled frames, and unlabelled people in partly labelled ones.
A re-identification network adds to every box, with or without an identity, an appearance vector,
from which our embedding is distilled.
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
from jde_ray.models.sde.declaration import COLOURS, DetectorDeclaration, NetworkDeclaration
from jde_ray.models.sde.declaration_file import read_embedder
from jde_ray.models.sde.network import AppearanceEmbedder, PersonDetector, views_of
from jde_ray.models.structures import FloatArray
from jde_ray.models.suppression import suppress
from jde_ray.pipelines.detection.embedders import open_embedder

__all__ = ["AppearanceEmbedder", "DetectorTeacher", "open_appearance", "open_detector"]

NANODET_SIZE = (640, 384)  # sets the area of its input, which has the picture's shape
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DetectorTeacher(Protocol):
    """Finds people in a picture."""

    def detect(
        self, picture: NDArray[np.uint8], score_threshold: float
    ) -> tuple[FloatArray, FloatArray]:
        """`(N, 4)` corners and `(N,)` scores above the threshold, of a uint8 RGB picture."""


class NanoDetTeacher:
    """NanoDet-g (COCO) on the full picture and, if it is wide, on its two halves.

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
        order = np.argsort(-scores, kind="stable")
        kept = order[suppress(tlbr[order], 0.5)]
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
    """Open NanoDet-g (`.json`) or FastestDet (`.onnx`), both trained on COCO, with one CPU thread.

    Both search the full picture and, if it is wide, its two halves.

    Raises:
        ValueError: If the file cannot be used, or onnxruntime is needed and not installed.
    """
    if path.suffix == ".json":
        return NanoDetTeacher(read_nanodet(path))
    return PersonDetector(
        DetectorDeclaration(file=path, layout="fastestdet", colour="bgr", views="halves")
    )


def is_colours(path: Path) -> bool:
    """Whether a recipe's appearance teacher is `colours`, and no file of that name below ROOT."""
    return path.name == COLOURS and not path.exists()


def open_appearance(path: Path) -> AppearanceEmbedder:
    """Open OSNet, which computes an L2-normalised 512-vector per box, with one CPU thread.

    For `colours` (`is_colours`) no network is needed; its vectors have 164 numbers.

    Raises:
        ValueError: If onnxruntime is not installed or the file cannot be used.
    """
    if is_colours(path):
        return open_embedder(read_embedder(COLOURS))
    return AppearanceEmbedder(NetworkDeclaration(file=path, mean=IMAGENET_MEAN, std=IMAGENET_STD))


def principal_directions(vectors: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Mean and the `(512, width)` directions of largest variance of teacher vectors.

    Vectors that are projected on them and normalised again keep the teacher's similarities in fewer
    dimensions. The sign of each direction makes its largest component positive, so that equal
    vectors always give equal directions.
    """
    mean = vectors.mean(0)
    _, _, found = np.linalg.svd(vectors - mean, full_matrices=False)
    directions = found[:width]
    largest = np.abs(directions).argmax(1)[:, None]
    return mean, (directions * np.sign(np.take_along_axis(directions, largest, 1))).T

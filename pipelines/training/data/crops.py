"""Crops of labelled people, cut once and kept as bytes, from which re-identification learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.training.crop_settings import CropConfig
from jde_ray.pipelines.training.data.labelled_image import TrainingImage


@dataclass(frozen=True)
class CropTable:
    """Crops of all people, in the order of their images.

    Attributes:
        pixels: `(N, 3, H, W)` uint8 RGB of the boxes with their surroundings (`context`), on any
            device.
        identity: `(N,)` int64 people from 0, -1 for unknown ones.
        time: `(N,)` int64 place of the image in its source, which orders a person's sightings.
        group: `(N,)` int64 index of the source.
        teacher: `(N, E)` float32 vectors of length 1 about the mean of all; zeros for none.
        origins: `(N,)` names of the files.
        num_identities: People that are told apart.
    """

    pixels: torch.Tensor
    identity: IntArray
    time: IntArray
    group: IntArray
    teacher: torch.Tensor
    origins: tuple[str, ...]
    num_identities: int

    def __len__(self) -> int:
        return len(self.identity)

    def to(self, device: torch.device) -> CropTable:
        """The table with pixels and teacher vectors on a device."""
        return replace(self, pixels=self.pixels.to(device), teacher=self.teacher.to(device))


def cut_crops(
    images: Sequence[TrainingImage], config: CropConfig, size: tuple[int, int]
) -> CropTable:
    """Cut every labelled person out of images whose identities are unique.

    Ignored boxes, small ones and those of people seen too seldom are left out; boxes are clipped to
    the image first, as a detector's are. People without an identity are kept only if a teacher has
    described them, and a batch is to hold some.

    Args:
        images: Labelled images, with the teacher's vectors as they are.
        config: What is cut.
        size: Width and height of the network's input.

    Raises:
        ValueError: If fewer than two people are left.
    """
    width, height = (round(side * config.detail * config.context) for side in size)
    boxes = list(_cut_boxes(images, config, (width, height)))
    numbers = np.array([one.identity for one in boxes], np.int64)
    known, counts = np.unique(numbers[numbers >= 0], return_counts=True)
    often = known[counts >= config.fewest_sightings]
    if len(often) < 2:
        text = f"an embedder learns from two or more, each seen {config.fewest_sightings} times"
        raise ValueError(f"identities: got {len(often)} people to learn from, {text}")
    numbers[~np.isin(numbers, often)] = -1
    teaches = np.array([config.unknown > 0 and bool(one.vector.any()) for one in boxes], bool)
    rows = np.flatnonzero((numbers >= 0) | teaches)
    kept = [boxes[row] for row in rows]
    identity = np.where(numbers[rows] < 0, -1, np.searchsorted(often, numbers[rows]))
    pixels = np.stack([one.pixels for one in kept]).transpose(0, 3, 1, 2)
    return CropTable(
        torch.from_numpy(np.ascontiguousarray(pixels)),
        identity.astype(np.int64),
        np.array([one.time for one in kept], np.int64),
        np.array([one.group for one in kept], np.int64),
        torch.from_numpy(_centred([one.vector for one in kept])),
        tuple(one.origin for one in kept),
        len(often),
    )


@dataclass(frozen=True)
class _Box:
    pixels: NDArray[np.uint8]
    identity: int
    time: int
    group: int
    vector: FloatArray
    origin: str


def _cut_boxes(
    images: Sequence[TrainingImage], config: CropConfig, size: tuple[int, int]
) -> Iterator[_Box]:
    """Boxes that are large enough, clipped to their images; unknown ones only with a vector."""
    seen: dict[int, int] = {}
    nothing = np.zeros(0, np.float32)
    for listed in images:
        time = seen[listed.group] = seen.get(listed.group, -1) + 1
        one = listed.open()
        height, width = one.image.shape[:2]
        boxes = one.tlbr.clip(0, [width, height, width, height]).astype(np.float32)
        sides = boxes[:, 2:] - boxes[:, :2]
        usable = ~one.ignore & (sides[:, 1] >= config.least_height) & (sides[:, 0] >= 4)
        for row in np.flatnonzero(usable):
            vector = one.appearance[row] if len(one.appearance) else nothing
            identity = int(one.identity[row])
            if identity >= 0 or vector.any():
                pixels = cut(one.image, boxes[row], config.context, size)
                yield _Box(pixels, identity, time, one.group, vector, one.origin)


def cut(
    image: NDArray[np.uint8], tlbr: FloatArray, context: float, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """A box and its surroundings, stretched to a size; beyond the image its border is repeated.

    Args:
        image: `(H, W, 3)` uint8.
        tlbr: `(4,)` corners in its pixels.
        context: Factor of the box's width and height.
        size: Width and height of the result.
    """
    left, top, right, bottom = (float(value) for value in tlbr)
    wide, tall = (right - left) * context, (bottom - top) * context
    x1, y1 = round((left + right - wide) / 2), round((top + bottom - tall) / 2)
    x2, y2 = max(x1 + 1, round(x1 + wide)), max(y1 + 1, round(y1 + tall))
    height, width = image.shape[:2]
    inside = image[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
    margins = (max(0, -y1), max(0, y2 - height), max(0, -x1), max(0, x2 - width))
    if any(margins):
        inside = np.asarray(cv2.copyMakeBorder(inside, *margins, cv2.BORDER_REPLICATE), np.uint8)
    shrinks = inside.shape[0] > size[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inside, size, interpolation=way), np.uint8)


def _centred(vectors: Sequence[FloatArray]) -> FloatArray:
    """`(N, E)` teacher vectors about their mean, of length 1; zeros where there is none.

    A teacher's vectors share a large part, so that cosines of different people are far above 0;
    about the mean they are spread around it.
    """
    width = max((len(vector) for vector in vectors), default=0)
    rows = np.zeros((len(vectors), width), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if len(vector) == width:
            row[:] = vector
    known = np.abs(rows).sum(1) > 0
    if known.any():
        rows[known] -= rows[known].mean(0)
        rows[known] /= np.maximum(np.linalg.norm(rows[known], axis=1, keepdims=True), 1e-12)
    return rows

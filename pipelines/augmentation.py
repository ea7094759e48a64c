"""Random views of labelled images: colour, geometry, and boxes that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.letterbox import PAD_VALUE
from models.structures import FloatArray, IntArray
from pipelines.labelled_images import Image, LabelledImage


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; sizes are those of a batch, drawn anew for each."""

    mosaic: float = 0.5
    scale: tuple[float, float] = (0.45, 1.6)  # over the scale that covers the canvas
    aspect: float = 0.1
    hue: float = 0.015
    saturation: float = 0.5
    value: float = 0.35
    rotation_degrees: float = 3.0
    min_height_px: float = 9.0
    min_visible: float = 0.35


def jitter_colour(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> Image:
    """`(H, W, 3)` RGB with hue, saturation and value scaled at random; 1 in 10 is blurred."""
    gains = 1 + rng.uniform(-1, 1, 3) * (
        augmentation.hue,
        augmentation.saturation,
        augmentation.value,
    )
    ramp = np.arange(256)
    hue = ((ramp * gains[0]) % 180).astype(np.uint8)
    saturation, value = (np.clip(ramp * gain, 0, 255).astype(np.uint8) for gain in gains[1:])
    channels = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    tables = (hue, saturation, value)
    merged = cv2.merge([cv2.LUT(c, t) for c, t in zip(channels, tables, strict=True)])
    out = cv2.cvtColor(merged, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.1:
        out = cv2.GaussianBlur(out, (3, 3), 0)
    return np.asarray(out, np.uint8)


def warp(
    labelled: LabelledImage,
    width: int,
    height: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Image, FloatArray]:
    """The image on a canvas under a random scale, aspect, rotation, shift and flip."""
    image = labelled.image
    cover = max(width / image.shape[1], height / image.shape[0])
    scale = cover * np.exp(rng.uniform(*np.log(augmentation.scale)))
    aspect = np.exp(rng.uniform(-augmentation.aspect, augmentation.aspect))
    if labelled.squashed:
        aspect *= rng.uniform(1.0, 1.5)
    scale_x = scale * np.sqrt(aspect) * (-1 if rng.random() < 0.5 else 1)
    scale_y = scale / np.sqrt(aspect)
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation_degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([scale_x, scale_y])
    centre = np.array([image.shape[1], image.shape[0]]) / 2
    room = np.abs([image.shape[1] * scale_x - width, image.shape[0] * scale_y - height])
    target = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    matrix = np.column_stack([linear, target - linear @ centre])
    smooth = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    if scale < 0.5:  # warpAffine aliases when it shrinks a lot: shrink first
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=smooth)
        warped = cv2.warpAffine(
            small,
            matrix @ np.diag([2.0, 2.0, 1.0]),
            (width, height),
            borderValue=(PAD_VALUE,) * 3,
        )
    else:
        warped = cv2.warpAffine(image, matrix, (width, height), borderValue=(PAD_VALUE,) * 3)
    middle = (labelled.tlbr[:, :2] + labelled.tlbr[:, 2:]) / 2
    middle = middle @ linear.T + matrix[:, 2]
    half = (labelled.tlbr[:, 2:] - labelled.tlbr[:, :2]) / 2 * np.abs([scale_x, scale_y])
    tlbr = np.concatenate([middle - half, middle + half], 1)
    return np.asarray(warped, np.uint8), tlbr.astype(np.float32)


@dataclass(frozen=True)
class Example:
    """One augmented image of a batch; fields as in `LabelledImage`."""

    image: Image
    tlbr: FloatArray
    identity: IntArray
    ignore: NDArray[np.bool_]
    appearance: FloatArray
    learns_detection: bool


def clipped(
    example: Example, left: int, top: int, right: int, bottom: int, augmentation: Augmentation
) -> Example:
    """Boxes cut at the window; small rests are ignored, what is outside goes."""
    before = (example.tlbr[:, 2:] - example.tlbr[:, :2]).prod(1)
    tlbr = example.tlbr.copy()
    tlbr[:, 0::2] = tlbr[:, 0::2].clip(left, right)
    tlbr[:, 1::2] = tlbr[:, 1::2].clip(top, bottom)
    size = tlbr[:, 2:] - tlbr[:, :2]
    inside = (size > 1).all(1)
    share = size.prod(1) / np.maximum(before, 1e-6)
    weak = (share < augmentation.min_visible) | (size[:, 1] < augmentation.min_height_px)
    return replace(
        example,
        tlbr=tlbr[inside],
        identity=example.identity[inside],
        ignore=(example.ignore | weak)[inside],
        appearance=example.appearance[inside],
    )

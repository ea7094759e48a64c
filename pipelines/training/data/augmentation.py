"""Random changes of colour and geometry of labelled images, including their boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import PAD_VALUE
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.training.data.labelled_image import Image, LabelledImage
from jde_ray.pipelines.training.settings import Augmentation


def jitter_colour(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> Image:
    """`(H, W, 3)` RGB with hue, saturation and value scaled at random; some images are blurred."""
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
    if rng.random() < augmentation.blur:
        out = cv2.GaussianBlur(out, (3, 3), 0)
    return np.asarray(out, np.uint8)


def warp(
    labelled: LabelledImage,
    width: int,
    height: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Image, FloatArray]:
    """Put the image on a canvas with random scale, aspect, rotation, shear, shift and flip.

    Returns:
        The canvas `(height, width, 3)` and the boxes `(G, 4)` on it, not clipped at its border.
    """
    image = labelled.image
    linear, scale_xy = _linear_part(labelled, width, height, augmentation, rng)
    centre = np.array([image.shape[1], image.shape[0]]) / 2
    canvas = np.array([width, height])
    if augmentation.translation is None:
        room = np.abs(centre * 2 * np.abs(scale_xy) - canvas)
        shift = rng.uniform(-0.5, 0.5, 2) * room
    else:
        shift = rng.uniform(-1, 1, 2) * augmentation.translation * canvas
    matrix = np.column_stack([linear, canvas / 2 + shift - linear @ centre])
    if np.abs(scale_xy).min() < 0.5:  # warpAffine aliases at small scales, so shrink first
        image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        turned = matrix @ np.diag([2.0, 2.0, 1.0])
    else:
        turned = matrix
    warped = cv2.warpAffine(image, turned, (width, height), borderValue=(PAD_VALUE,) * 3)
    return np.asarray(warped, np.uint8), _follow(labelled.tlbr, matrix, scale_xy, augmentation)


def _linear_part(
    labelled: LabelledImage,
    width: int,
    height: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """`(2, 2)` matrix of scale, flip, rotation and shear, and the signed scales of x and y."""
    rows, columns = labelled.image.shape[:2]
    fit = max if augmentation.fit == "cover" else min
    scale = fit(width / columns, height / rows) * np.exp(rng.uniform(*np.log(augmentation.scale)))
    aspect = np.exp(rng.uniform(-augmentation.aspect, augmentation.aspect))
    if labelled.squashed:
        aspect *= rng.uniform(1.0, 1.5)
    mirror = -1 if rng.random() < augmentation.flip else 1
    scale_xy = scale * np.array([mirror * np.sqrt(aspect), 1 / np.sqrt(aspect)])
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation_degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.tan(np.deg2rad(rng.uniform(-1, 1, 2) * augmentation.shear_degrees))
    return np.array([[1, shear[0]], [shear[1], 1]]) @ rotation @ np.diag(scale_xy), scale_xy


def _follow(
    tlbr: FloatArray, matrix: FloatArray, scale_xy: FloatArray, augmentation: Augmentation
) -> FloatArray:
    """`(G, 4)` boxes under an affine map."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    if not augmentation.hull:
        middle = (tlbr[:, :2] + tlbr[:, 2:]) / 2 @ linear.T + shift
        half = (tlbr[:, 2:] - tlbr[:, :2]) / 2 * np.abs(scale_xy)
    else:
        corners = tlbr[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ linear.T + shift
        low, high = corners.min(1), corners.max(1)
        # the hull of a rotated box is larger than the person in it
        turned = linear / np.linalg.norm(linear, axis=0)
        shrink = np.sqrt(np.abs(turned[:, 1]).max())
        middle, half = (low + high) / 2, (high - low) / 2 * shrink
    return np.concatenate([middle - half, middle + half], 1).astype(np.float32)


@dataclass(frozen=True)
class Example:
    """One augmented image of a batch, with the fields of `LabelledImage`."""

    image: Image
    tlbr: FloatArray
    identity: IntArray
    ignore: NDArray[np.bool_]
    appearance: FloatArray
    learns_detection: bool
    origin: str = ""


def clipped(
    example: Example, left: int, top: int, right: int, bottom: int, augmentation: Augmentation
) -> Example:
    """Clip boxes at a window: small remainders become ignored, boxes outside are dropped."""
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

"""Random views exactly like those of the published code (`augmentation: {published: true}`).

Differences from `pipelines.training.data.augmentation`: the scale is drawn from a uniform
distribution, colours change before the border is added, shifts are relative to the other axis,
shear is relative to the corner, and a box of which too little remains becomes background instead of
an ignored region.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import PAD_VALUE, Letterbox
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.training.data.augmentation import Example
from jde_ray.pipelines.training.data.labelled_image import Image, LabelledImage
from jde_ray.pipelines.training.settings import Augmentation

MIN_SIDE_PX = 4.0
MIN_AREA_LEFT = 0.1  # smallest remaining share of the area before the warp
MAX_ASPECT = 10.0


def published_view(
    labelled: LabelledImage,
    width: int,
    height: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Example:
    """A scene on a canvas of `(height, width)`, with boxes clipped at the border.

    It uses the ranges of saturation, value, scale, rotation, shear and translation in
    `augmentation`, and the share of flips. Nine numbers are drawn, in the published order.
    """

    def between(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    gains = [
        1 + between(-augmentation.saturation, augmentation.saturation),
        1 + between(-augmentation.value, augmentation.value),
    ]
    rows, columns = labelled.image.shape[:2]
    box = Letterbox(columns, rows, width, height)
    canvas = box.apply(_coloured(labelled.image, *gains))
    degrees, shear = augmentation.rotation_degrees, augmentation.shear_degrees
    angle, scale = between(-degrees, degrees), between(*augmentation.scale)
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    reach = augmentation.translation or 0.0
    move = np.eye(3)
    move[0, 2] = between(-reach, reach) * height  # relative to the other side, as published
    move[1, 2] = between(-reach, reach) * width
    lean = np.eye(3)
    lean[0, 1] = np.tan(np.deg2rad(between(-shear, shear)))
    lean[1, 0] = np.tan(np.deg2rad(between(-shear, shear)))
    matrix = lean @ move @ turn
    grey = (PAD_VALUE,) * 3
    warped = cv2.warpPerspective(canvas, matrix, (width, height), borderValue=grey)
    # half of the space beside the scaled picture, up to half a pixel off, as published
    wide, tall = box.scaled_size
    border = [(width - wide) / 2, (height - tall) / 2] * 2
    before = labelled.tlbr.astype(np.float64) * box.ratio + border
    tlbr = _hulls(before, matrix, angle)
    tlbr = tlbr.clip(0, [width, height] * 2)
    kept = _enough_left(before, tlbr)
    if rng.random() > 1 - augmentation.flip:
        warped = np.ascontiguousarray(warped[:, ::-1])
        tlbr = tlbr[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    return Example(
        np.asarray(warped, np.uint8),
        tlbr[kept].astype(np.float32),
        labelled.identity[kept],
        labelled.ignore[kept],
        labelled.appearance[kept],
        True,
        labelled.origin,
    )


def _coloured(image: Image, saturation: float, value: float) -> Image:
    """`(H, W, 3)` RGB with saturation and value multiplied, clipped at 255."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    for channel, gain in ((1, saturation), (2, value)):
        table = np.clip(np.arange(256, dtype=np.float32) * np.float32(gain), 0, 255)
        hsv[:, :, channel] = table.astype(np.uint8)[hsv[:, :, channel]]
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _hulls(tlbr: FloatArray, matrix: FloatArray, angle: float) -> FloatArray:
    """Hulls of `(G, 4)` boxes under an affine map, shrunk slightly with the angle of rotation."""
    corners = tlbr[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ matrix[:2, :2].T + matrix[:2, 2]
    low, high = corners.min(1), corners.max(1)
    radians = np.deg2rad(angle)
    shrink = np.sqrt(max(abs(np.sin(radians)), abs(np.cos(radians))))
    middle, half = (low + high) / 2, (high - low) / 2 * shrink
    return np.concatenate([middle - half, middle + half], 1)


def _enough_left(before: FloatArray, tlbr: FloatArray) -> NDArray[np.bool_]:
    """`(G,)` bool, true for boxes that are still large enough and have the shape of a person."""
    wide, tall = (tlbr[:, 2:] - tlbr[:, :2]).T
    area = (before[:, 2:] - before[:, :2]).prod(1)
    aspect = np.maximum(wide / (tall + 1e-16), tall / (wide + 1e-16))
    large = (wide > MIN_SIDE_PX) & (tall > MIN_SIDE_PX)
    kept: NDArray[np.bool_] = (
        large & (wide * tall / (area + 1e-16) > MIN_AREA_LEFT) & (aspect < MAX_ASPECT)
    )
    return kept

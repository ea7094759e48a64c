"""Checks and converts images of the caller's own program."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.pipelines.video.frame import MAX_SIDE

_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


def bgr_to_rgb(image: Any) -> NDArray[np.uint8]:
    """Convert an image of OpenCV to the form that the networks expect.

    Args:
        image: `(H, W, 3)` uint8 BGR; also grey `(H, W)` or `(H, W, 1)`, and `(H, W, 4)` BGRA, whose
            transparency is ignored.

    Returns:
        `(H, W, 3)` uint8 RGB, which shares no memory with `image`.

    Raises:
        ValueError: If it has another shape or type, such as a picture of PIL, whose colours are
            RGB; if it is empty, or has a side above 8192 pixels.
    """
    if image is None:
        raise ValueError(
            "image: got None, expected an (H, W, 3) uint8 BGR array; cv2 reads a file that it "
            "cannot open as None"
        )
    # the array of a picture of PIL would be taken for BGR, or its palette for grey
    if hasattr(image, "getbands"):
        raise ValueError(
            f"image: got a picture of PIL ({image.mode}), expected an (H, W, 3) uint8 BGR array; "
            'cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR) makes one'
        )
    pixels = np.asarray(image)
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    if pixels.dtype != np.uint8:
        hint = "; multiply by 255 first" if np.issubdtype(pixels.dtype, np.floating) else ""
        raise ValueError(f"image: got {pixels.dtype}, expected uint8 from 0 to 255{hint}")
    if len(shape) != 3 or shape[2] not in _TO_RGB:
        raise ValueError(
            f"image: got shape {pixels.shape}, expected (H, W, 3) BGR, or grey or BGRA"
        )
    if not 1 <= min(shape[:2]) <= max(shape[:2]) <= MAX_SIDE:
        raise ValueError(
            f"image: got {shape[1]}x{shape[0]} pixels, expected sides from 1 to {MAX_SIDE}"
        )
    rgb = cv2.cvtColor(np.ascontiguousarray(pixels), _TO_RGB[shape[2]])
    return np.asarray(rgb, np.uint8)

"""Frames as image files, which the service accepts."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | bytes
Encoding = Literal["png", "jpeg"]

_QUICK_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
# With colours at full resolution and quality 95 boxes move half as far from those of PNG frames as
# with OpenCV's halved colours: small people are then seen first in the same frame, and numbered so.
_FINE_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)


def check_encoding(encoding: str) -> None:
    """Refuse a format that is none of `Encoding`.

    Raises:
        ValueError: If it is another one: `PNG` would be sent as JPEG, which is not exact.
    """
    if encoding not in get_args(Encoding):
        raise ValueError(f"encoding: got {encoding!r}, expected {' | '.join(get_args(Encoding))}")


def encode(image: Image, encoding: Encoding = "png") -> bytes:
    """Bytes of an image; bytes are returned unchanged.

    Args:
        image: `(H, W, 3)` uint8 RGB, or bytes.
        encoding: Format for arrays.

    Raises:
        ValueError: If it is anything else, such as floats, grey values or an alpha channel, or
            there is no such format.
    """
    check_encoding(encoding)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    shape: tuple[int, ...] = getattr(image, "shape", ())
    kind = getattr(image, "dtype", type(image).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or not all(shape):
        got = f"{tuple(shape)} {kind}" if shape else str(kind)
        raise ValueError(f"image: got {got}, expected (H, W, 3) uint8 RGB, or bytes of a file")
    bgr = np.ascontiguousarray(image[..., ::-1])
    suffix, settings = (".png", _QUICK_PNG) if encoding == "png" else (".jpg", _FINE_JPEG)
    ok, data = cv2.imencode(suffix, bgr, settings)
    if not ok:
        raise ValueError(f"image: got {image.shape}, which {encoding} cannot hold")
    return bytes(data)

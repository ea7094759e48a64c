"""The letterbox: fits a frame into the network's size with grey borders, and maps boxes back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray

PAD_VALUE = 128  # the original pads with 127.5, which OpenCV stores as 128 in uint8
_STRIDE = 32  # stride of the network's coarsest map; sides are multiples of it
_NARROWEST = 64  # torch's bf16 convolutions read freed memory in inputs 32 wide (2.13, AMX)
_SPARE_AREA = 1.03  # largest area of a fitted input, relative to the given size


def fitted_size(source_width: int, source_height: int, size: tuple[int, int]) -> tuple[int, int]:
    """The input size that suits frames of one shape: little border, about the area of `size`.

    A tall or very wide frame in a fixed 16:9 input is mostly border, and its people are small.
    Among inputs whose sides are multiples of 32 and whose area is at most 3 % above that of
    `size`, this is the smallest of those that show the frame largest. No side is below 64, unless
    one of `size` is.

    Args:
        source_width: Width of the frames in pixels, after display rotation.
        source_height: Height of the frames in pixels, after display rotation.
        size: Width and height in pixels that set the area, multiples of 32.

    Returns:
        Width and height in pixels.

    >>> fitted_size(1920, 1080, (576, 320)), fitted_size(1080, 1920, (576, 320))
    ((576, 320), (320, 576))
    """
    most = int(size[0] * size[1] * _SPARE_AREA)
    least = _NARROWEST if min(size) >= _NARROWEST else _STRIDE
    widths = range(least, most // least + 1, _STRIDE)
    shapes = [(width, most // width // _STRIDE * _STRIDE) for width in widths]
    best = max(shapes, key=lambda wh: _ratio(source_width, source_height, *wh))
    ratio = _ratio(source_width, source_height, *best)
    # remove the border again, in full strides
    width, height = (
        min(side, max(least, -(-round(source * ratio) // _STRIDE) * _STRIDE))
        for side, source in zip(best, (source_width, source_height), strict=True)
    )
    return width, height


def _ratio(width: int, height: int, network_width: int, network_height: int) -> float:
    return min(network_height / height, network_width / width)


@dataclass(frozen=True)
class Letterbox:
    """Position of a `source` frame inside a `network` frame, with exactly the original's geometry.

    Attributes:
        source_width: Width of the frame in pixels, after display rotation.
        source_height: Height of the frame in pixels, after display rotation.
        network_width: Width of the network's input in pixels.
        network_height: Height of the network's input in pixels.

    Raises:
        ValueError: If a size is not positive.
    """

    source_width: int
    source_height: int
    network_width: int
    network_height: int

    def __post_init__(self) -> None:
        sizes = (self.source_width, self.source_height, self.network_width, self.network_height)
        if min(sizes) < 1:
            raise ValueError(f"letterbox: sizes must be at least 1, got {sizes}")

    @property
    def ratio(self) -> float:
        """Network pixels per source pixel."""
        return _ratio(
            self.source_width, self.source_height, self.network_width, self.network_height
        )

    @property
    def scaled_size(self) -> tuple[int, int]:
        """Width and height of the scaled frame in network pixels (banker's rounding)."""
        width = max(1, round(self.source_width * self.ratio))
        return width, max(1, round(self.source_height * self.ratio))

    @property
    def offset(self) -> tuple[int, int]:
        """Left and top border in network pixels."""
        width, height = self.scaled_size
        left = round((self.network_width - width) / 2 - 0.1)
        return left, round((self.network_height - height) / 2 - 0.1)

    def to_source(self, tlbr: FloatArray) -> FloatArray:
        """Map `(N, 4)` boxes from network pixels to source pixels.

        Like the original's inverse, this uses the unrounded padding and clamps only negative
        coordinates.
        """
        ratio = self.ratio
        pad_x = (self.network_width - self.source_width * ratio) / 2
        pad_y = (self.network_height - self.source_height * ratio) / 2
        pad = np.array([pad_x, pad_y, pad_x, pad_y], tlbr.dtype)
        mapped: FloatArray = np.maximum((tlbr - pad) / np.asarray(ratio, tlbr.dtype), 0)
        return mapped

    def pictures(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Letterboxed frames `(n, H, W, 3)` without their borders, as `(n, h, w, 3)` views."""
        left, top = self.offset
        width, height = self.scaled_size
        return frames[:, top : top + height, left : left + width]

    def picture_to_source(self, tlbr: FloatArray) -> FloatArray:
        """Map `(N, 4)` boxes from pixels of a frame without borders to source pixels."""
        width, height = self.scaled_size
        scale = [self.source_width / width, self.source_height / height]
        mapped: FloatArray = tlbr * np.array(scale * 2, tlbr.dtype)
        return mapped

    def source_to_picture(self, tlbr: FloatArray) -> FloatArray:
        """Inverse of `picture_to_source`."""
        width, height = self.scaled_size
        scale = [width / self.source_width, height / self.source_height]
        mapped: FloatArray = tlbr * np.array(scale * 2, tlbr.dtype)
        return mapped

    def to_network(self, tlbr: FloatArray) -> FloatArray:
        """Map `(N, 4)` boxes from source pixels to network pixels, with the rounded geometry."""
        left, top = self.offset
        width, height = self.scaled_size
        scale = np.array([width / self.source_width, height / self.source_height] * 2)
        mapped: FloatArray = tlbr * scale + np.array([left, top, left, top])
        return mapped

    def place(self, scaled: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put a scaled frame `(h, w, 3)` of `scaled_size` between its grey borders."""
        left, top = self.offset
        width, height = self.scaled_size
        canvas = np.full((self.network_height, self.network_width, 3), PAD_VALUE, np.uint8)
        canvas[top : top + height, left : left + width] = scaled
        return canvas

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Letterbox `(H, W, 3)` like the published system, with OpenCV's INTER_AREA.

        The order of channels does not matter.
        """
        scaled = cv2.resize(image, self.scaled_size, interpolation=cv2.INTER_AREA)
        return self.place(np.asarray(scaled, np.uint8))

"""One decoded frame of any source, converted on demand to upright RGB of a given size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import VideoInfo

Image = NDArray[np.uint8]

RGBArray = NDArray[np.uint8]

MAX_SIDE = 8192
MAX_PIXELS = 36_000_000


@dataclass(frozen=True)
class Frame:
    """A decoded frame, converted on demand so that skipped frames cost no conversion.

    Attributes:
        frame_index: 0-based rank in decode output order.
        time_s: Presentation time in seconds from the start of the video, strictly rising.
        info: Size and rate of the video; the size is that of its first frame.
        scaled: `scaled(width, height)` returns the upright frame `(height, width, 3)` RGB uint8,
            in one pass.
        is_damaged: Whether the decoder concealed missing data in it.
    """

    frame_index: int
    time_s: float
    info: VideoInfo
    scaled: Callable[[int, int], RGBArray]
    is_damaged: bool = False

    def rgb(self) -> RGBArray:
        """The frame in source pixels, `(H, W, 3)` RGB uint8."""
        return self.scaled(self.info.width, self.info.height)


def check_size(width: int, height: int, frame: int | None = None) -> None:
    """Refuse frames that would take too much memory, before they are decoded.

    Raises:
        VideoError: `too_large`.
    """
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        detail = f"got {width}x{height}, expected sides to {MAX_SIDE} and 36 megapixels"
        raise VideoError(Reason.TOO_LARGE, detail, frame)

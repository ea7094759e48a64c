"""Chooses the network's input size for a video, by its frames and people (`--size auto`).

A larger input finds far people whom the weights' own size misses, and costs as much more as it has
more pixels (docs/decisions/0021-the-input-size-of-a-video.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.structures import ChosenSize

SCALES = (1.0, 4 / 3, 5 / 3, 2.0)  # of the sides of the weights' own size
LARGEST_SCALE = SCALES[-1]
NUM_FRAMES = 8  # that are looked at
EVERY_S = 0.5  # seconds between two of them
LEAST_SCORE = 0.5  # of a detection that counts as a person
SMALL_SHARE = 0.25  # a size is chosen for people of whom so many are not larger
WANTED_HEIGHT = 45.0  # pixels that they should have in the input; lower ones are often missed
_STRIDE = 32
_ENLARGED = 1.001  # scale of a frame up to which it does not count as enlarged
_LEAST_STEP = 1.1  # from one size to the next


def candidates(
    source: tuple[int, int], size: tuple[int, int], *, rect: bool
) -> list[tuple[float, tuple[int, int]]]:
    """Scales and input sizes for frames of one size, smallest first.

    The first is the size that a run without `auto` has; scales are relative to it. No larger one
    enlarges the frames, which would show no more: the last may be that of the frames themselves.

    Args:
        source: Width and height of the frames in pixels.
        size: Size of the weights, width and height in pixels.
        rect: Whether inputs are fitted to the shape of the frames.
    """

    def fit(scale: float) -> tuple[int, int]:
        width, height = (_up(side * scale) for side in size)
        return fitted_size(*source, (width, height)) if rect else (width, height)

    first = fit(1.0)
    own = (_up(source[0]), _up(source[1]))
    found = [(1.0, first)]
    for scale in SCALES[1:]:
        one = fit(scale)
        is_last = Letterbox(*source, *one).ratio > _ENLARGED
        if is_last and rect:
            one = own
        gain = Letterbox(*source, *one).ratio / Letterbox(*source, *first).ratio
        if (rect or not is_last) and gain >= found[-1][0] * _LEAST_STEP:
            found.append((gain, one))
        if is_last:
            break
    return found


def _up(side: float) -> int:
    return math.ceil(side / _STRIDE) * _STRIDE


def choose(options: Sequence[tuple[float, tuple[int, int]]], heights: FloatArray) -> ChosenSize:
    """The smallest size in which all but the farthest people are large enough.

    Args:
        options: Result of `candidates`.
        heights: `(n,)` heights of the people found in the first frames, in pixels of the first
            option.
    """
    own = options[0][1]
    if len(options) == 1:
        return ChosenSize(own, "the frames have no more pixels")
    if not len(heights):
        return ChosenSize(own, "nobody was found in the first frames")
    far = float(np.quantile(heights, SMALL_SHARE, method="lower"))
    size = next((one for scale, one in options if far * scale >= WANTED_HEIGHT), options[-1][1])
    seen = f"a quarter of {len(heights)} boxes in the first frames is up to {far:.0f} px high"
    return ChosenSize(size, f"{seen} at {own[0]}x{own[1]}")

"""How much a camera moves, as the boxes show it: what all tracks miss alike is the camera's doing.

People move on their own, so the differences between their boxes and the predictions scatter around
0. If the median of these differences keeps being larger than their scatter explains, the picture
moves as a whole, and the tracks that have no box yet move with it. If not, the camera stands (or
its motion is known), and the motion model may trust itself more than the boxes.

It is used where detections have no embeddings. Measured reasons:
docs/decisions/0017-boxes-without-embeddings.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_FEWEST = 4  # differences whose median says something
_ERROR_OF_MEDIAN = 1.25 * 1.4826  # of n normal values, times their MAD / sqrt(n)
_RATE = 0.05  # share of a frame in the running mean
_MOST = 9.0  # of one frame: a cut is no motion
_START = 2.0
_MOVING = 3.5  # about 1 for a camera that stands, 5 for one that is carried


class Sway:
    """The running mean of (median / its standard error)^2, across and down.

    Args:
        value: The `value` to go on from, which is copied; None to start.

    Attributes:
        value: `(2,)`.
    """

    def __init__(self, value: NDArray[np.float64] | None = None) -> None:
        self.value = np.full(2, _START) if value is None else value.copy()

    @property
    def is_moving(self) -> bool:
        """Whether the picture moves as a whole, more than is known."""
        return bool(self.value.max() >= _MOVING)

    def observe(self, missed: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Learn from the tracks that were matched first.

        Args:
            missed: `(2, K)` centres of their boxes minus predicted centres, in pixels.

        Returns:
            `(2, 1)` pixels by which the camera moved all tracks; None if it is not moving, or if
            there are too few.
        """
        count = missed.shape[1]
        if count < _FEWEST:
            return None
        median = np.median(missed, axis=1, keepdims=True)
        scatter = np.median(np.abs(missed - median), axis=1)
        error = np.maximum(_ERROR_OF_MEDIAN * scatter / math.sqrt(count), 1e-9)
        self.value += _RATE * (np.minimum((median[:, 0] / error) ** 2, _MOST) - self.value)
        return median if self.is_moving else None

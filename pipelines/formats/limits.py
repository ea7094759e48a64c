"""The largest numbers that files may hold; larger ones overflow, or would take all memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_FRAMES = 100_000_000  # of a video: 19 days at 60 frames a second
MOST_ID = 2**53 - 1  # text is read as floats, in which larger numbers are the same as others
MOST_PIXELS = 1e9  # larger numbers are no places in a picture


def are_rows(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows `(n, 6)` hold a frame from 0, an id and the corners of a box.

    >>> are_rows(np.array([[0, 7, 1, 2, 3, 4], [0, 7.5, 1, 2, 3, 4]])).tolist()
    [True, False]
    """
    whole, frame = numbers[:, :2], numbers[:, 0]
    is_named = (whole == np.floor(whole)).all(axis=1) & (np.abs(numbers[:, 1]) <= MOST_ID)
    is_box = (np.abs(numbers[:, 2:]) < MOST_PIXELS).all(axis=1)
    found: NDArray[np.bool_] = is_named & is_box & (frame >= 0) & (frame < MOST_FRAMES)
    return found

"""Where people stand and walk: sightings by cell of the picture."""

from __future__ import annotations

import numpy as np

from jde_ray.models.counting.geometry import feet
from jde_ray.models.structures import FloatArray, IntArray

CELLS_ACROSS, CELLS_DOWN = 64, 36  # of a picture of any size


def count_sightings(tlbr: FloatArray, size: tuple[int, int]) -> IntArray:
    """`(CELLS_DOWN, CELLS_ACROSS)` number of foot points in each cell.

    Points outside the picture, as of people whom its lower edge cuts off, count for the nearest
    cell.

    Args:
        tlbr: `(n, 4)` boxes in pixels.
        size: Width and height of the picture in pixels.
    """
    x, y, _ = feet(tlbr)
    column = np.clip(x * (CELLS_ACROSS / size[0]), 0, CELLS_ACROSS - 1).astype(np.int64)
    row = np.clip(y * (CELLS_DOWN / size[1]), 0, CELLS_DOWN - 1).astype(np.int64)
    cell = np.bincount(row * CELLS_ACROSS + column, minlength=CELLS_DOWN * CELLS_ACROSS)
    return cell.reshape(CELLS_DOWN, CELLS_ACROSS)

"""Who continues whom from one frame to the next, by the boxes alone.

Where one box of the frame before lies on a box, and no other comes near either, there is no doubt
about the person, and appearance need not be asked again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.matching import overlap_matrix

SURE = 0.5  # least overlap of a clear predecessor
RIVAL = 0.2  # greatest overlap of either box with any other box of the other frame
LIKELY = 0.3  # least overlap of a predecessor that nothing important depends on


def clear_predecessors(before: FloatArray, now: FloatArray) -> NDArray[np.intp]:
    """`(N,)` index of the box that each box continues beyond doubt, -1 for none.

    Args:
        before: `(M, 4)` corners in the frame before, finite.
        now: `(N, 4)` corners in this frame, finite.
    """
    overlap = _overlap(before, now)
    near = overlap > RIVAL
    alone = near & (near.sum(axis=1) == 1)[:, None] & (near.sum(axis=0) == 1)
    predecessors = np.full(len(now), -1, np.intp)
    rows, columns = (alone & (overlap > SURE)).nonzero()
    predecessors[columns] = rows
    return predecessors


def likely_predecessors(before: FloatArray, now: FloatArray) -> NDArray[np.intp]:
    """`(N,)` index of the box that overlaps each box most, -1 if none does by `LIKELY`."""
    if not len(before):
        return np.full(len(now), -1, np.intp)
    overlap = _overlap(before, now)
    nearest = overlap.argmax(axis=0)
    found: NDArray[np.intp] = np.where(overlap.max(axis=0) > LIKELY, nearest, -1)
    return found


def _overlap(before: FloatArray, now: FloatArray) -> FloatArray:
    return overlap_matrix(before.T.astype(np.float64), now.T.astype(np.float64), 0.0)

"""What the live and the whole-file half share, so that both compute with equal bits.

Everything is elementwise: the same numbers give the same bits in arrays of any length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.counting.places import Ground, Line
from jde_ray.models.structures import FloatArray, IntArray

WALK_STEP_S = 1.0  # a walk is measured between sightings this far apart, not from jitter to jitter


def feet(
    tlbr: FloatArray, size: tuple[float, float] | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`(n,)` x and y of the foot points of boxes, and `(n,)` heights, as float64.

    Args:
        tlbr: `(n, 4)` boxes; they are rounded to float32 before, as in files.
        size: Width and height of the picture, to which foot points are moved; None: not at all.

    Returns:
        Foot points, the centres of the lower edges, and heights of the boxes.
    """
    left, top, right, bottom = tlbr.astype(np.float32).astype(np.float64).T
    x, y = (left + right) / 2, bottom
    if size is not None:
        x, y = np.clip(x, 0.0, size[0]), np.clip(y, 0.0, size[1])
    return x, y, bottom - top


def offset(line: Line, x: FloatArray, y: FloatArray) -> FloatArray:
    """`(n,)` distance from the line times its length, above 0 on the right."""
    (ax, ay), (bx, by) = line.points
    return (bx - ax) * (y - ay) - (by - ay) * (x - ax)


def is_right(away: FloatArray) -> NDArray[np.bool_]:
    """`(n,)` whether points are on the right of a line; those on it count as left."""
    return away > 0


def clear_side(line: Line, away: FloatArray, height: FloatArray) -> NDArray[np.int8]:
    """`(n,)` 1 where a person is clearly on the right, -1 where clearly on the left, else 0."""
    (ax, ay), (bx, by) = line.points
    margin = line.margin * np.hypot(bx - ax, by - ay) * height
    side: NDArray[np.int8] = (away > margin).astype(np.int8) - (away < -margin)
    return side


def meet(
    line: Line, before: tuple[FloatArray, FloatArray], after: tuple[FloatArray, FloatArray]
) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    """Where `(n,)` steps from one side to the other pass the line or its extension.

    Args:
        line: The line.
        before: x and y of the points before the steps.
        after: The same after them; `is_right` differs from that of the points before.

    Returns:
        `(n,)` whether a step crosses the line itself, ends included, and x and y of the place.
    """
    (ax, ay), (bx, by) = line.points
    (px, py), (qx, qy) = before, after
    from_start = (qx - px) * (ay - py) - (qy - py) * (ax - px)
    from_end = (qx - px) * (by - py) - (qy - py) * (bx - px)
    on_line = ((from_start >= 0) & (from_end <= 0)) | ((from_start <= 0) & (from_end >= 0))
    own, other = offset(line, px, py), offset(line, qx, qy)
    share = own / (own - other)
    return on_line, px + share * (qx - px), py + share * (qy - py)


def step_of(since_s: FloatArray) -> IntArray:
    """`(n,)` number of the step of a walk, by seconds since its first sighting."""
    step: IntArray = np.floor(since_s / WALK_STEP_S).astype(np.int64)
    return step


def ground_distance(
    ground: Ground, before: tuple[FloatArray, FloatArray], after: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """`(n,)` metres on the ground between points of the picture; NaN above the horizon."""
    (ax, ay), (bx, by) = ground.to_metres(*before), ground.to_metres(*after)
    across, along = bx - ax, by - ay
    metres: FloatArray = np.sqrt(across * across + along * along)
    return metres

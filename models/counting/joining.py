"""Joining the pieces of broken tracks before counting, by place and time alone.

It costs milliseconds per video. `models.tracking.postprocessing.linking`, which `jde refine` uses,
also cuts tracks and compares appearance, and takes some hundred times longer.
"""

from __future__ import annotations

import numpy as np

from jde_ray.models.counting.geometry import feet
from jde_ray.models.structures import FloatArray, IntArray

_WALK_S = 1.0  # the end of a track over which its velocity is measured, and goes on in a gap
_NEAR, _NEAR_PER_S = 0.5, 0.5  # heights of the person: largest miss, and more per second of gap
_LARGEST_RATIO = 1.5  # of both heights


def join_tracks(
    time_s: FloatArray, track_id: IntArray, tlbr: FloatArray, join_s: float
) -> IntArray:
    """Ids in which a track that begins where and when another one has ended continues it.

    The new track must begin up to `join_s` seconds after the end, at most half a height of the
    person (and half a height per second) from where the old one was heading, and be of similar
    height. The nearest pairs are joined first, each end and each beginning once.

    Args:
        time_s: `(n,)` seconds of the rows, in any order.
        track_id: `(n,)` ids.
        tlbr: `(n, 4)` boxes in pixels.
        join_s: Longest gap in seconds.

    Returns:
        `(n,)` ids; joined tracks have that of the first of them.
    """
    if not len(track_id):
        return track_id
    order = np.lexsort((time_s, track_id))
    ids, first = np.unique(track_id[order], return_index=True)
    last = np.append(first[1:], len(order)) - 1
    times = time_s[order]
    x, y, height = feet(tlbr[order])
    at = np.stack([x, y], axis=1)
    # velocity over the last second, in pixels per second
    since = np.array(
        [
            low + np.searchsorted(times[low : high + 1], times[high] - _WALK_S)
            for low, high in zip(first, last, strict=True)
        ]
    )
    took_s = np.maximum(times[last] - times[since], 1e-9)[:, None]
    velocity = (at[last] - at[since]) / took_s
    by_begin = np.argsort(times[first], kind="stable")
    begins_s = times[first][by_begin]
    pairs: list[tuple[float, int, int]] = []
    for old in range(len(ids)):
        end_s = times[last[old]]
        low, high = np.searchsorted(begins_s, [end_s, end_s + join_s], side="right")
        new = by_begin[low:high]
        gap_s = times[first[new]] - end_s
        heading = at[last[old]] + velocity[old] * np.minimum(gap_s, _WALK_S)[:, None]
        size = np.minimum(height[last[old]], height[first[new]])
        ratio = np.maximum(height[last[old]], height[first[new]]) / np.maximum(size, 1e-9)
        off = np.linalg.norm(at[first[new]] - heading, axis=1) / np.maximum(size, 1e-9)
        fits = (off <= _NEAR + _NEAR_PER_S * gap_s) & (ratio <= _LARGEST_RATIO)
        pairs += [(float(off[i]), old, int(new[i])) for i in np.flatnonzero(fits)]
    before = _chain(sorted(pairs), len(ids))
    names = ids.copy()
    for new in by_begin.tolist():  # an old track begins before those that continue it
        if before[new] >= 0:
            names[new] = names[before[new]]
    return names[np.searchsorted(ids, track_id)]


def _chain(pairs: list[tuple[float, int, int]], count: int) -> list[int]:
    """For each track the one that it continues, or -1."""
    before, has_next = [-1] * count, [False] * count
    for _, old, new in pairs:
        if before[new] < 0 and not has_next[old]:
            before[new], has_next[old] = old, True
    return before

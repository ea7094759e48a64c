"""Cutting finished tracks into pieces that show one person each.

Trackers confuse people where they lose sight of them, so a track is cut at every gap: whether both
sides are one person is decided again, with the whole video known. It is also cut where the means of
a few sightings before and after say that the person changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.appearance import (
    NEAR,
    AppearanceEvidence,
    calibrate,
    sum_ranges,
)
from jde_ray.models.tracking.postprocessing.glimpses import Glimpses, distance, unit


@dataclass(frozen=True)
class Pieces:
    """Pieces of tracks, in the order of the tracks' rows.

    Attributes:
        glimpses: `(p, 2)` first glimpse of each piece, and the one after its last.
        rows: `(p, 2)` the same as rows of the trajectories.
        continues: `(p,)` whether the tracker continued the piece before, and nothing but the gap
            between them speaks against it.
    """

    glimpses: IntArray
    rows: IntArray
    continues: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


def cut(
    glimpses: Glimpses, frames_per_second: float, stride: int, change: float
) -> tuple[Pieces, AppearanceEvidence | None]:
    """Pieces of all tracks, and what appearance says in this video.

    Args:
        glimpses: Of all tracks.
        frames_per_second: Rate of the video.
        stride: Every n-th frame was tracked.
        change: Cut where the log-likelihood ratio for two people is above this.
    """
    begins = glimpses.new_track()
    after_gap = glimpses.missing(stride) > 0
    begins |= after_gap
    if glimpses.sums is None or not len(glimpses):
        return _pieces(glimpses, begins, after_gap), None
    looks = calibrate(glimpses, _ranges(begins), frames_per_second)
    begins = begins | _changes(glimpses, begins, looks, frames_per_second, change)
    pieces = _pieces(glimpses, begins, after_gap)
    return pieces, calibrate(glimpses, pieces.glimpses, frames_per_second)


def _changes(
    glimpses: Glimpses,
    begins: NDArray[np.bool_],
    looks: AppearanceEvidence,
    frames_per_second: float,
    change: float,
) -> NDArray[np.bool_]:
    """Glimpses at which the person changes: local extremes of the evidence for two people."""
    found = np.zeros(len(begins), bool)
    sums = glimpses.sums
    assert sums is not None  # noqa: S101
    for first, end in _ranges(begins).tolist():
        if end - first < 2:
            continue
        total = np.concatenate(
            [np.zeros((1, sums.shape[1])), np.cumsum(sums[first:end], axis=0, dtype=np.float64)]
        )
        at = np.arange(1, end - first)
        low, high = np.maximum(0, at - NEAR), np.minimum(end - first, at + NEAR)
        apart = distance(unit(total[at] - total[low]), unit(total[high] - total[at]))
        begin, last = glimpses.first_frame[first:end], glimpses.last_frame[first:end]
        frames = (begin[at] + last[high - 1] - begin[low] - last[at - 1]) / 2
        ratio = looks.ratio(apart, apart, frames / frames_per_second)
        while (worst := int(ratio.argmin())) >= 0 and ratio[worst] < -change:
            found[first + at[worst]] = True
            ratio[max(0, worst - NEAR) : worst + NEAR + 1] = np.inf
    return found


def _pieces(glimpses: Glimpses, begins: NDArray[np.bool_], after_gap: NDArray[np.bool_]) -> Pieces:
    ranges = _ranges(begins)
    rows = np.zeros_like(ranges)
    if len(ranges):
        rows = np.stack([glimpses.start[ranges[:, 0]], glimpses.end[ranges[:, 1] - 1]], axis=1)
    return Pieces(ranges, rows, after_gap[ranges[:, 0]])


def _ranges(begins: NDArray[np.bool_]) -> IntArray:
    """`(p, 2)` index of each True, and of the next one."""
    start = np.flatnonzero(begins)
    return np.stack([start, np.append(start[1:], len(begins))[: len(start)]], axis=1)


def piece_means(sums: FloatArray, pieces: Pieces) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each piece `(p, D)` unit means of its first and last few glimpses, and its sum."""
    start, end = pieces.glimpses.T
    head = sum_ranges(sums, start, np.minimum(end, start + NEAR))
    tail = sum_ranges(sums, np.maximum(start, end - NEAR), end)
    whole = np.add.reduceat(sums, start, axis=0) if len(start) else sums[:0]
    return unit(head), unit(tail), whole

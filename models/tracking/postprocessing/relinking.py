"""Relinking: joins a track that ends with a later one of the same appearance.

The tracker drops a lost person after its buffer of frames and cannot look ahead. Once all frames
are known, the mean embedding of a track identifies a person better than the running one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.matching import assign
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


@dataclass(frozen=True, kw_only=True)
class RelinkLimits:
    """Which tracks may be joined.

    Attributes:
        max_gap_s: Maximum seconds between the end of one and the start of the other.
        max_distance: Maximum Euclidean distance of their mean embeddings (0 to 2).
        max_speed: Maximum speed from the last box to the first, in heights of the smaller box per
            second; a distance of one height is always allowed.
        min_rows: Shorter tracks are not joined, since their mean embedding is unreliable.

    Raises:
        ValueError: If a value is out of range.
    """

    max_gap_s: float = 3.0
    max_distance: float = 0.6
    max_speed: float = 1.5
    min_rows: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.max_gap_s <= 3600:
            raise ValueError(f"relink: got gap {self.max_gap_s} s, expected above 0 to 3600")
        if not 0 < self.max_distance <= 2:
            raise ValueError(f"relink: got distance {self.max_distance}, expected above 0 to 2")
        if not 0 <= self.max_speed <= 1000 or self.min_rows < 1:
            raise ValueError("relink: expected a speed of 0 to 1000 and at least 1 row")


def relink(tracks: Trajectories, limits: RelinkLimits, frames_per_second: float) -> Trajectories:
    """Join tracks whose embeddings indicate the same person.

    Each track has at most one successor and one predecessor; the assignment maximises the sum of
    `max_distance` - distance. A joined track takes the lowest of its ids. Boxes do not change.

    Args:
        tracks: Tracks of one video, with embeddings.
        limits: Which tracks may be joined.
        frames_per_second: Frame rate of the video.

    Raises:
        ValueError: If the tracks have no embeddings.
    """
    if tracks.embeddings is None:
        raise ValueError("relink: got tracks without embeddings")
    starts, ends = tracks.spans()
    rows = np.flatnonzero(ends - starts >= limits.min_rows)
    if len(rows) < 2:
        return tracks
    first, last = starts[rows], ends[rows] - 1
    gap_s = (tracks.frame[first][None, :] - tracks.frame[last][:, None]) / frames_per_second
    distance = _distances(_means(tracks.embeddings, starts[rows], ends[rows]))
    reach = np.maximum(1.0, limits.max_speed * gap_s)
    allowed = (gap_s > 0) & (gap_s <= limits.max_gap_s) & (distance < limits.max_distance)
    allowed &= _in_heights(tracks.tlbr[last], tracks.tlbr[first]) <= reach
    before, after = np.nonzero(allowed)
    pairs = assign(before, after, distance[before, after], limits.max_distance)
    return _renumber(tracks, rows[before[pairs]], rows[after[pairs]])


def _means(embeddings: FloatArray, starts: IntArray, ends: IntArray) -> FloatArray:
    """`(k, D)` unit vectors, the mean direction of each track."""
    parts = [embeddings[a:b].astype(np.float64) for a, b in zip(starts, ends, strict=True)]
    units = [p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12) for p in parts]
    mean = np.array([unit.mean(axis=0) for unit in units])
    normalised: FloatArray = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return normalised


def _distances(units: FloatArray) -> FloatArray:
    distance: FloatArray = np.sqrt(np.maximum(2 - 2 * units @ units.T, 0))
    return distance


def _in_heights(last: FloatArray, first: FloatArray) -> FloatArray:
    """`(k, k)` distances of centres in heights of the smaller box."""
    centre_last, centre_first = (last[:, :2] + last[:, 2:]) / 2, (first[:, :2] + first[:, 2:]) / 2
    apart = np.linalg.norm(centre_last[:, None] - centre_first[None], axis=2)
    height = np.minimum((last[:, 3] - last[:, 1])[:, None], (first[:, 3] - first[:, 1])[None])
    shares: FloatArray = apart / np.maximum(height, 1e-9)
    return shares


def _renumber(tracks: Trajectories, before: IntArray, after: IntArray) -> Trajectories:
    """Give every track of a chain the id of the chain's first track."""
    starts, ends = tracks.spans()
    ids = tracks.track_id[starts].copy()
    group = np.arange(len(ids))
    for a, b in sorted(zip(before.tolist(), after.tolist(), strict=True),
                       key=lambda pair: int(tracks.frame[starts[pair[1]]])):  # fmt: skip
        group[group == group[b]] = group[a]
    lowest = {int(g): int(ids[group == g].min()) for g in np.unique(group)}
    new = np.array([lowest[int(g)] for g in group], np.int64)
    return Trajectories.sort(
        tracks.frame,
        np.repeat(new, ends - starts),
        tracks.tlbr,
        tracks.score,
        tracks.embeddings,
    )

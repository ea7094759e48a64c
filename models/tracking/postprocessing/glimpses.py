"""Glimpses: a few successive sightings of one track, the unit in which finished tracks are judged.

A single sighting says little about who it shows; the mean of five clean ones says much. A video's
glimpses take a fifth of the memory of its embeddings, and everything after them works on means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

SIGHTINGS = 5  # per glimpse, at most
_CHUNK = 32_768  # rows whose embeddings are in memory at once
_LEAST_WEIGHT = 1e-3  # of a sighting that is covered entirely: better than none


class Embeddings(Protocol):
    """`(N, D)` vectors: an array, or what puts them together when they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""
        ...

    def __getitem__(self, rows: NDArray[Any], /) -> FloatArray:
        """`(k, D)` vectors of some rows."""
        ...


@dataclass(frozen=True)
class Glimpses:
    """Successive rows of a track without a missing frame, at most `SIGHTINGS` of them.

    Attributes:
        start: `(m,)` first row of each in the trajectories; they tile all rows.
        end: `(m,)` row after the last.
        first_frame: `(m,)` frame of the first row.
        last_frame: `(m,)` frame of the last row.
        track_id: `(m,)` id of the track.
        sums: `(m, D)` float32 sums of the unit embeddings, weighted by cleanness; None without
            embeddings.

    Raises:
        ValueError: If lengths disagree.
    """

    start: IntArray
    end: IntArray
    first_frame: IntArray
    last_frame: IntArray
    track_id: IntArray
    sums: FloatArray | None = None

    def __post_init__(self) -> None:
        m = len(self.start)
        each = (self.end, self.first_frame, self.last_frame, self.track_id)
        if any(len(values) != m for values in each):
            raise ValueError(f"glimpses: got lengths {[len(v) for v in each]}, expected {m}")
        if self.sums is not None and len(self.sums) != m:
            raise ValueError(f"glimpses: got {len(self.sums)} sums, expected {m}")

    def __len__(self) -> int:
        return len(self.start)

    def new_track(self) -> NDArray[np.bool_]:
        """`(m,)` whether a glimpse is the first of its track."""
        return np.append(True, np.diff(self.track_id) != 0)[: len(self)]

    def missing(self, stride: int) -> IntArray:
        """`(m,)` frames without a sighting before each glimpse; 0 for the first of a track."""
        gap = np.append(0, (self.first_frame[1:] - self.last_frame[:-1]) // stride - 1)
        missing: IntArray = np.where(self.new_track(), 0, gap[: len(self)])
        return missing


def take_glimpses(
    tracks: Trajectories, embeddings: Embeddings | None = None, stride: int = 1
) -> Glimpses:
    """Glimpses of all tracks.

    Args:
        tracks: Tracks of one video.
        embeddings: `(N, D)` by `tracks.source`, an array or a file mapped into memory.
        stride: Every n-th frame was tracked.
    """
    n = len(tracks)
    follows = np.zeros(n, bool)
    follows[1:] = (np.diff(tracks.track_id) == 0) & (np.diff(tracks.frame) <= stride)
    run_start = np.flatnonzero(~follows)
    place = np.arange(n) - np.repeat(run_start, np.diff(np.append(run_start, n)))
    start = np.flatnonzero(place % SIGHTINGS == 0)
    end = np.append(start[1:], n)[: len(start)]
    sums = None
    if embeddings is not None:
        sums = _sum_by_glimpse(tracks, embeddings, start)
    return Glimpses(
        start, end, tracks.frame[start], tracks.frame[end - 1], tracks.track_id[start], sums
    )


def cleanest_sightings(tracks: Trajectories, stride: int = 1) -> IntArray:
    """`(m,)` cleanest row of each glimpse, in the order of `take_glimpses`."""
    glimpses = take_glimpses(tracks, stride=stride)
    of_row = np.repeat(np.arange(len(glimpses)), glimpses.end - glimpses.start)
    order = np.lexsort((-cleanness(tracks), of_row))
    cleanest: IntArray = order[glimpses.start]
    return cleanest


def _sum_by_glimpse(tracks: Trajectories, embeddings: Embeddings, start: IntArray) -> FloatArray:
    """Sums of unit embeddings, weighted by cleanness, read once in the order of the source."""
    weight = cleanness(tracks)
    of_row = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(tracks))))
    sums = np.zeros((len(start), embeddings.shape[1]), np.float32)
    order = np.argsort(tracks.source, kind="stable")
    for first in range(0, len(order), _CHUNK):
        rows = np.sort(order[first : first + _CHUNK])  # by glimpse
        part = np.asarray(embeddings[tracks.source[rows]], np.float32)
        part = unit(part) * weight[rows, None].astype(np.float32)
        glimpse = of_row[rows]
        edges = np.flatnonzero(np.append(True, np.diff(glimpse) != 0))
        sums[glimpse[edges]] += np.add.reduceat(part, edges, axis=0)
    return sums


def cleanness(tracks: Trajectories) -> FloatArray:
    """`(n,)` weight of each sighting: its score, times the squared share of it that is in view."""
    weight: FloatArray = np.maximum(tracks.score, 0.05) * (1 - covered(tracks)) ** 2
    return weight + _LEAST_WEIGHT


def covered(tracks: Trajectories) -> FloatArray:
    """`(n,)` greatest share of each box that another box of its frame overlaps."""
    share = np.zeros(len(tracks))
    order = np.argsort(tracks.frame, kind="stable")
    frame = tracks.frame[order]
    edges = np.flatnonzero(np.append(True, np.diff(frame) != 0))
    for first, last in zip(edges, np.append(edges[1:], len(frame)), strict=True):
        if last - first < 2:
            continue
        rows = order[first:last]
        x1, y1, x2, y2 = tracks.tlbr[rows].T
        width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
        height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        np.fill_diagonal(overlap, 0)
        share[rows] = overlap.max(axis=1) / np.maximum((x2 - x1) * (y2 - y1), 1e-9)
    return np.minimum(share, 1.0)


def unit(vectors: FloatArray) -> FloatArray:
    """The vectors with a length of 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: FloatArray = vectors / np.maximum(length, 1e-12)
    return result


def distance(a: FloatArray, b: FloatArray) -> FloatArray:
    """Euclidean distance of unit vectors, row by row, from 0 to 2."""
    cosine = np.einsum("...d,...d->...", a, b)
    result: FloatArray = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    return result

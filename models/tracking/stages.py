"""The two ways in which a stage matches tracks with detections: by appearance and by overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.calibration import Calibration
from jde_ray.models.tracking.frame import Frame
from jde_ray.models.tracking.matching import (
    Indices,
    are_unique,
    assign,
    embedding_distance,
    overlap_matrix,
    overlap_of_pairs,
    pairs_below,
    uncontested,
    without,
)
from jde_ray.models.tracking.track import TRACKED, TrackStore

_GATE_INCLUSIVE = float(np.nextafter(kalman.GATE, np.inf))


class LookLimits(NamedTuple):
    """What `match_looks` takes for the same person.

    Attributes:
        appearance: Largest cost.
        motion_share: Share of the squared Mahalanobis distance in the cost.
        sure_overlap: IoU from which a track seen in the last frame is matched first; 1 for never.
        calibration: Distances are those around its mean; None compares the vectors as they are.
    """

    appearance: float
    motion_share: float
    sure_overlap: float
    calibration: Calibration | None

    def distance(
        self, store: TrackStore, frame: Frame, rows: Indices, columns: Indices
    ) -> FloatArray:
        """`(P,)` embedding distances of pairs of a track and a detection."""
        compare = embedding_distance if self.calibration is None else self.calibration.distance
        return compare(store.embeddings[: store.count], frame.embeddings, rows, columns)


def match_appearance(
    store: TrackStore,
    frame: Frame,
    variance: NDArray[np.float64],
    motion_share: float,
    limit: float,
) -> tuple[Indices, Indices]:
    """Match by embedding distance, with a share of the motion gate's distance (equation 7).

    Args:
        store: Predicted tracks; the first M take part.
        frame: N detections.
        variance: `(4, M)` `innovation_variance` of those tracks.
        motion_share: Weight w of the squared Mahalanobis distance; that of the embedding is 1 - w.
        limit: Largest cost of a match.

    Returns:
        `(K,)` tracks and `(K,)` their detections.
    """
    candidates = store.state[:, : variance.shape[1]]
    gate = kalman.gating_matrix(candidates, variance, frame.xyah)
    rows, columns, cost = pairs_below(gate, _GATE_INCLUSIVE)
    cost *= motion_share
    distance = embedding_distance(store.embeddings, frame.embeddings, rows, columns)
    cost += (1 - motion_share) * distance
    allowed = (cost < limit).nonzero()[0]
    rows, columns = rows[allowed], columns[allowed]
    chosen = assign(rows, columns, cost[allowed], limit)
    return rows[chosen], columns[chosen]


def match_looks(
    store: TrackStore,
    frame: Frame,
    variance: NDArray[np.float64],
    pair_allowed: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    limits: LookLimits,
) -> tuple[Indices, Indices]:
    """Match by appearance in two steps, both inside the motion gate.

    A pair is possible if its cost, the embedding distance with a share of the gate's distance as in
    `match_appearance`, is below the limit. Of several possible pairs of a track or a detection,
    tracks seen in the last frame with a detection on them come first, so that nobody else can take
    that detection because the sum of all costs is better. The cost decides about the rest.

    Args:
        store: Predicted tracks; the first M take part.
        frame: N detections.
        variance: `(4, M)` `innovation_variance` of those tracks.
        pair_allowed: `(M,)` and `(N,)` masks of the tracks and detections that take part.
        limits: What is close enough.

    Returns:
        `(K,)` tracks and `(K,)` their detections.
    """
    candidates = store.state[:, : variance.shape[1]]
    gate = kalman.gating_matrix(candidates, variance, frame.xyah)
    rows, columns, motion = pairs_below(gate, _GATE_INCLUSIVE)
    known, sure = pair_allowed
    if np.count_nonzero(known) < len(known) or np.count_nonzero(sure) < len(sure):
        kept = (known.take(rows) & sure.take(columns)).nonzero()[0]
        rows, columns, motion = rows.take(kept), columns.take(kept), motion.take(kept)
    cost = limits.distance(store, frame, rows, columns) * (1 - limits.motion_share)
    motion *= limits.motion_share
    cost = motion + cost
    close = (cost < limits.appearance).nonzero()[0]
    if not len(close):
        return close, close
    rows, columns, cost = rows.take(close), columns.take(close), cost.take(close)
    if are_unique(rows, columns):
        return rows, columns
    matched, contested = uncontested(rows, columns)
    own, found = rows.take(contested), columns.take(contested)
    first = _overlapping(store, frame, own, found, limits.sure_overlap)
    left = without(own, found, first)
    others = left[
        assign(own[left], found[left], cost.take(contested.take(left)), limits.appearance)
    ]
    matched = np.concatenate((matched, contested.take(first), contested.take(others)))
    return rows.take(matched), columns.take(matched)


def _overlapping(
    store: TrackStore, frame: Frame, rows: Indices, columns: Indices, sure_overlap: float
) -> Indices:
    """`(K,)` of the P pairs: tracks seen in the last frame with the detections on them."""
    recent: Indices = (store.status[rows] == TRACKED).nonzero()[0]
    if sure_overlap >= 1 or not len(recent):
        return recent[:0]
    boxes = store.boxes(rows[recent])
    apart = 1 - overlap_of_pairs(boxes, frame.tlbr.take(columns[recent], axis=1))
    near = (apart < 1 - sure_overlap).nonzero()[0]
    recent = recent[near]
    chosen: Indices = recent[assign(rows[recent], columns[recent], apart[near], 1 - sure_overlap)]
    return chosen


def match_grown(
    store: TrackStore,
    frame: Frame,
    known: NDArray[np.bool_],
    free: NDArray[np.bool_],
    growth: float,
    overlap_limit: float,
    limits: LookLimits,
) -> tuple[Indices, Indices]:
    """Match what is left by the overlap of enlarged boxes, but only pairs that look alike.

    At low frame rates people turn and stop between two frames, and the motion gate knows nothing of
    that: its noise is that of a frame.

    Args:
        store: The tracks.
        frame: N detections.
        known: `(M,)` mask of the tracks that take part.
        free: `(N,)` mask of the detections that take part.
        growth: Share of their size by which boxes grow on every side.
        overlap_limit: Largest cost of a match, 1 - IoU of the enlarged boxes.
        limits: What looks alike.

    Returns:
        `(K,)` tracks and `(K,)` their detections.
    """
    tracks = known.nonzero()[0]
    if not len(tracks):
        return tracks, tracks
    rows, columns = match_overlap(
        store, frame, tracks, free.nonzero()[0], overlap_limit, growth=growth
    )
    alike = limits.distance(store, frame, rows, columns) < limits.appearance
    return rows[alike], columns[alike]


def match_overlap(
    store: TrackStore,
    frame: Frame,
    tracks: Indices,
    detections: Indices,
    limit: float,
    pixel: float = 0.0,
    *,
    fuse_scores: bool = False,
    growth: float = 0.0,
) -> tuple[Indices, Indices]:
    """Match by 1 - IoU of the tracks' boxes as they stand.

    Args:
        store: The tracks.
        frame: The detections.
        tracks: `(M,)` indices of the tracks that take part.
        detections: `(N,)` indices of the detections that take part.
        limit: Largest cost of a match.
        pixel: Added to widths and heights, see `overlap_matrix`.
        fuse_scores: Multiply overlaps by the detection's score (ByteTrack).
        growth: Share of their size by which both boxes grow on every side.

    Returns:
        `(K,)` tracks and `(K,)` their detections.
    """
    boxes, found = store.boxes(tracks), frame.tlbr.take(detections, axis=1)
    if growth:
        boxes, found = _grown(boxes, growth), _grown(found, growth)
    overlap = overlap_matrix(boxes, found, pixel)
    if fuse_scores:
        overlap *= frame.scores[detections]
    rows, columns, cost = pairs_below(np.subtract(1.0, overlap, out=overlap), limit)
    chosen = assign(rows, columns, cost, limit)
    return tracks[rows[chosen]], detections[columns[chosen]]


def _grown(boxes: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """`(4, N)` corners, extended on every side by this share of the size (buffered IoU)."""
    margin = share * (boxes[2:] - boxes[:2])
    return np.concatenate([boxes[:2] - margin, boxes[2:] + margin])

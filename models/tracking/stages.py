"""The two ways in which a stage matches tracks with detections: by appearance and by overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.frame import Frame
from jde_ray.models.tracking.matching import (
    Indices,
    assign,
    embedding_distance,
    overlap_matrix,
    pairs_below,
)
from jde_ray.models.tracking.track import TrackStore

Vectors = tuple[FloatArray, FloatArray]  # (M, D) of tracks and (N, D) of detections, unit length

_GATE_INCLUSIVE = float(np.nextafter(kalman.GATE, np.inf))


def match_appearance(
    store: TrackStore,
    frame: Frame,
    variance: NDArray[np.float64],
    motion_share: float,
    limit: float,
    pair_allowed: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
    vectors: Vectors | None = None,
) -> tuple[Indices, Indices]:
    """Match by embedding distance, with a share of the motion gate's distance (equation 7).

    Args:
        store: Predicted tracks; the first M take part.
        frame: N detections.
        variance: `(4, M)` `innovation_variance` of those tracks.
        motion_share: Weight w of the squared Mahalanobis distance; that of the embedding is 1 - w.
        limit: Largest cost of a match.
        pair_allowed: `(M,)` and `(N,)` masks of the tracks and detections that take part; None for
            all.
        vectors: Embeddings to compare; None for those of the table and of the frame.

    Returns:
        `(K,)` tracks and `(K,)` their detections.
    """
    candidates = store.state[:, : variance.shape[1]]
    gate = kalman.gating_matrix(candidates, variance, frame.xyah)
    rows, columns, cost = pairs_below(gate, _GATE_INCLUSIVE)
    if pair_allowed is not None:
        kept = (pair_allowed[0][rows] & pair_allowed[1][columns]).nonzero()[0]
        rows, columns, cost = rows[kept], columns[kept], cost[kept]
    cost *= motion_share
    own, found = (store.embeddings, frame.embeddings) if vectors is None else vectors
    distance = embedding_distance(own, found, rows, columns)
    cost += (1 - motion_share) * distance
    allowed = (cost < limit).nonzero()[0]
    rows, columns = rows[allowed], columns[allowed]
    chosen = assign(rows, columns, cost[allowed], limit)
    return rows[chosen], columns[chosen]


def match_sure(
    store: TrackStore,
    frame: Frame,
    tracks: Indices,
    detections: Indices,
    overlap_limit: float,
    vectors: Vectors,
    limit: float,
) -> tuple[Indices, Indices]:
    """Match by overlap, but only pairs that also look alike.

    Args:
        store: The tracks.
        frame: The detections.
        tracks: `(M,)` indices of the tracks that take part.
        detections: `(N,)` indices of the detections that take part.
        overlap_limit: Largest cost of a match, 1 - IoU.
        vectors: Embeddings to compare.
        limit: Embedding distance that a pair must stay below.

    Returns:
        `(K,)` tracks and `(K,)` their detections.
    """
    matched, taken = match_overlap(store, frame, tracks, detections, overlap_limit)
    alike = embedding_distance(*vectors, matched, taken) < limit
    return matched[alike], taken[alike]


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

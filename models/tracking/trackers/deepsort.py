"""DeepSORT: a matching cascade by appearance within a motion gate (Wojke et al., ICIP 2017).

Confirmed tracks are matched first, recently seen ones before those lost for longer: by the smallest
cosine distance to the track's last 100 embeddings, among detections within the gate of the squared
Mahalanobis distance. The remaining detections are matched by overlap with tentative tracks and
with tracks seen in the last frame. Without embeddings the cascade uses the motion distance itself
(lambda = 1 in equation 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices, assign, pairs_below
from jde_ray.models.tracking.stages import match_overlap
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore

GALLERY = 100  # embeddings per track


@dataclass(frozen=True, kw_only=True)
class DeepSortConfig(OneThresholdConfig):
    """Settings of DeepSORT; the defaults are the paper's and the authors'.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a confirmed track is kept without a match.
        high_score: Detections below this score are ignored.
        min_hits: Detections a track needs before it is confirmed and reported.
        appearance_limit: Largest cosine distance of a match.
        overlap_limit: Largest 1 - IoU of a match.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["deepsort"] = "deepsort"
    track_buffer: int = 30
    high_score: float = 0.3
    min_hits: int = 3
    appearance_limit: float = 0.2
    overlap_limit: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 1, 100)
        check_range("appearance_limit", self.appearance_limit, 0.0, 2.0)
        check_range("overlap_limit", self.overlap_limit, 0.0, 1.0)


def associate(store: TrackStore, frame: Frame, config: DeepSortConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, dt, max_lost = step.now, step.dt, step.max_lost
    count = store.count
    status = store.status[:count].copy()
    kalman.predict(store.state[:, :count], dt)
    variance = kalman.innovation_variance(store.state[:, :count])
    matched, taken = _cascade(store, frame, config, variance, now)
    free = np.ones(len(frame), np.bool_)
    free[taken] = False
    candidate = (status == TENTATIVE) | (status == TRACKED)
    candidate[matched] = False
    left = free.nonzero()[0]
    more, new = match_overlap(store, frame, candidate.nonzero()[0], left, config.overlap_limit)
    free[new] = False
    matched, taken = np.concatenate((matched, more)), np.concatenate((taken, new))
    store.absorb(frame, matched, taken, variance.take(matched, axis=1), 0.0, now)

    unseen = store.last_frame[:count] != now
    young = ~unseen & (status == TENTATIVE) & (store.hits[:count] < config.min_hits)
    store.status[:count][young] = TENTATIVE
    store.status[:count][unseen & (status == TRACKED)] = LOST
    outlived = now - store.last_frame[:count] > max_lost
    store.remove(unseen & ((status == TENTATIVE) | outlived))
    births = free.nonzero()[0]
    start = TRACKED if config.min_hits == 1 else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)


def _cascade(
    store: TrackStore,
    frame: Frame,
    config: DeepSortConfig,
    variance: NDArray[np.float64],
    now: float,
) -> tuple[Indices, Indices]:
    """Listing 1 of the paper: match confirmed tracks in order of time since their last match.

    Returns:
        `(K,)` tracks and their `(K,)` detections.
    """
    confirmed = (store.status[: store.count] != TENTATIVE).nonzero()[0]
    nothing = np.zeros(0, np.intp)
    if not len(confirmed) or not len(frame):
        return nothing, nothing
    chosen = store.state.take(confirmed, axis=1)
    gate = kalman.gating_matrix(chosen, variance.take(confirmed, axis=1), frame.xyah)
    cost: FloatArray = gate
    limit = kalman.GATE
    if frame.embeddings.shape[1]:
        cost, limit = gallery_distance(store, confirmed, frame.embeddings), config.appearance_limit
        cost[gate > kalman.GATE] = np.inf
    ages = np.ceil(now - store.last_frame[confirmed])
    free = np.arange(len(frame))
    matched, taken = [nothing], [nothing]
    for age in np.unique(ages):
        rows = (ages == age).nonzero()[0]
        candidates = pairs_below(cost[np.ix_(rows, free)], np.nextafter(limit, np.inf))
        pairs = assign(*candidates, np.nextafter(limit, np.inf))
        matched.append(confirmed[rows[candidates[0][pairs]]])
        taken.append(free[candidates[1][pairs]])
        free = np.delete(free, candidates[1][pairs])
        if not len(free):
            break
    return np.concatenate(matched), np.concatenate(taken)


def gallery_distance(
    store: TrackStore, tracks: Indices, embeddings: NDArray[np.float32]
) -> FloatArray:
    """Smallest cosine distance of each detection to each track's gallery (equation 3).

    Args:
        store: Tracks with their galleries.
        tracks: `(M,)` indices of the tracks that take part.
        embeddings: `(N, D)` L2-normalised embeddings of the detections.

    Returns:
        `(M, N)` in [0, 2].
    """
    filled = np.minimum(store.hits[tracks], store.gallery.shape[1]).astype(np.intp)
    slots = int(filled.max())
    cosine = store.gallery[tracks, :slots] @ embeddings.T
    cosine[np.arange(slots) >= filled[:, None]] = -1.0
    distance: FloatArray = 1.0 - cosine.max(axis=1).astype(np.float64)
    return np.maximum(distance, 0.0)

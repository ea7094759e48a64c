"""One frame of the association that tracks best on real video (mode `default`).

Differences from `published`: detections of the first frame are reported at once; tentative tracks
are predicted; lost tracks can also be found by overlap (at low frame rates with enlarged boxes, if
they look alike); weak detections can extend a track; no track starts on top of a tracked box; a
lost track ends exactly when its buffer is over; overlaps are continuous; time steps may vary.
Without embeddings weak detections extend lost tracks too, and boxes show whether the camera moves.
Measured reasons: docs/decisions/0003-default-association.md, 0016 and 0017 beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices, overlap_matrix
from jde_ray.models.tracking.stages import (
    LookLimits,
    match_grown,
    match_looks,
    match_overlap,
)
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore

FIRST_FRAME = 1.0


_MOST_GROWTH = 0.6
_STEADY_PROCESS, _STEADY_MEASUREMENT = 0.5, 1.5  # noise where the camera does not move, no looks


def associate(store: TrackStore, frame: Frame, config: TrackingConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, dt = step.now, step.dt
    store.remove(now - store.last_frame[: store.count] > step.max_lost)
    count = store.count
    status = store.status[:count].copy()
    state = store.state[:, :count].copy()  # contiguous, which is faster for few tracks
    growing = state[7]
    growing *= status != LOST  # a lost track keeps its height
    has_looks = store.width > 0
    is_steady = not (has_looks or store.sway.is_moving)
    kalman.predict(state, dt, _STEADY_PROCESS if is_steady else 1.0)
    store.state[:, :count] = state
    if has_looks and config.appearance_limit is None:
        store.calibration.learn(frame, config.high_score)
    growth, units = 0.0, 30.0 * dt / step.frames_per_second
    if units > 1:
        growth = min(_MOST_GROWTH, config.lost_growth * (units - 1))
    matched, births = _match(store, frame, config, status, now, growth, is_steady=is_steady)
    if len(births):
        births = births[frame.scores[births] >= config.first_score]
        births = _outside_tracked(store, frame, births, config.birth_overlap)

    if len(matched) < count:
        unseen = store.last_frame[:count] != now
        store.status[:count][unseen & (status == TRACKED)] = LOST
        tentative = status == TENTATIVE
        if np.count_nonzero(tentative):
            store.remove(unseen & tentative)
    if len(births):
        start = TRACKED if now == FIRST_FRAME or config.min_hits == 1 else TENTATIVE
        store.append(frame, births, store.take_ranks(len(births)), start, now)


def _match(
    store: TrackStore,
    frame: Frame,
    config: TrackingConfig,
    status: NDArray[np.float64],
    now: float,
    growth: float,
    *,
    is_steady: bool,
) -> tuple[Indices, Indices]:
    """Run the stages and update the matched tracks.

    Returns:
        `(K,)` matched tracks, and the unmatched detections with a high score, ascending.
    """
    high = frame.scores >= config.high_score
    count, nobody = len(status), np.zeros(0, np.intp)
    if not count or not len(frame):
        return nobody, high.nonzero()[0]
    variance = kalman.innovation_variance(
        store.state[:, :count], _STEADY_MEASUREMENT if is_steady else 1.0
    )
    free, weak, has_looks = high.copy(), ~high, store.width > 0
    if has_looks:
        matched, taken = match_looks(
            store, frame, variance, (status != TENTATIVE, high), _limits(store, config)
        )
    else:
        matched = taken = nobody
    free[taken] = False
    low_limit = config.low_overlap_limit if has_looks else config.blind_low_overlap_limit
    for wanted, limit, waiting in (
        (TRACKED, config.overlap_limit, free),
        (LOST, config.lost_overlap_limit, free),
        (TENTATIVE, config.tentative_overlap_limit, free),
        (TRACKED, low_limit, weak),
        (LOST, 0.0 if has_looks else low_limit, weak),
    ):
        if not limit or len(taken) == len(frame) or not np.count_nonzero(waiting):
            continue
        left = waiting.nonzero()[0]
        candidate = status == wanted
        candidate[matched] = False
        tracks = candidate.nonzero()[0]
        if not len(tracks):
            continue
        own = growth if wanted == LOST and not has_looks else 0.0
        more, new = match_overlap(store, frame, tracks, left, limit, growth=own)
        if len(more):
            matched, taken = np.concatenate((matched, more)), np.concatenate((taken, new))
            waiting[new] = False
            if not has_looks and wanted == TRACKED and waiting is free:
                _follow_camera(store, frame, matched, taken, variance)
    if growth and has_looks and free.any():
        known = status != TENTATIVE
        known[matched] = False
        more, new = match_grown(
            store, frame, known, free, growth, config.lost_overlap_limit, _limits(store, config)
        )
        matched, taken = np.concatenate((matched, more)), np.concatenate((taken, new))
        free[new] = False
    store.absorb(
        frame,
        matched,
        taken,
        variance.take(matched, axis=1),
        config.embedding_momentum,
        now,
        mean_first=True,
    )
    if config.min_hits > 2:
        young = matched[(status[matched] == TENTATIVE) & (store.hits[matched] < config.min_hits)]
        store.status[young] = TENTATIVE
    return matched, free.nonzero()[0]


def _follow_camera(
    store: TrackStore, frame: Frame, matched: Indices, taken: Indices, variance: FloatArray
) -> None:
    """Move the tracks that are not matched yet as the camera has moved the matched ones."""
    missed = frame.xyah[:2].take(taken, axis=1) - store.state[:2].take(matched, axis=1)
    shift = store.sway.observe(missed)
    if shift is not None:
        others = np.ones(store.count, np.bool_)
        others[matched] = False
        gain = np.median(store.state[12].take(matched) / variance[0].take(matched))
        kalman.shift(store.state, others.nonzero()[0], shift, float(gain))


def _limits(store: TrackStore, config: TrackingConfig) -> LookLimits:
    fixed = config.appearance_limit
    return LookLimits(
        store.calibration.limit if fixed is None else fixed,
        config.motion_share,
        config.sure_overlap,
        store.calibration if fixed is None else None,
    )


def _outside_tracked(
    store: TrackStore, frame: Frame, births: Indices, most_overlap: float
) -> Indices:
    """The detections of `births` that do not overlap a tracked track by more than `most_overlap`.

    Tracks count if they were seen in this frame or in the last one (then they become `LOST` only
    afterwards): a detection that overlaps one, but too little for a match, is more likely that
    person than a new one. At the default limits such a pair is a match. With an `overlap_limit` of
    .3, starting tracks on unmatched ones cost .3 HOTA and a third more switches on MOT16-11's DPM
    boxes.
    """
    tracked = (store.status[: store.count] == TRACKED).nonzero()[0]
    if not len(births) or not len(tracked):
        return births
    boxes = store.boxes(tracked)
    overlap = overlap_matrix(frame.tlbr.take(births, axis=1), boxes, 0.0)
    alone: Indices = births[overlap.max(axis=1) <= most_overlap]
    return alone

"""ByteTrack: uses every detection box, weak ones in a second pass (Zhang et al., ECCV 2022).

First, tracked and lost tracks are matched with strong detections by overlap (times the detection's
score, as in the authors' release); then the remaining tracked ones with weak detections; then
tentative tracks with the remaining strong ones. Only strong detections above `birth_score` start
tracks. If a tracked and a lost track overlap, the shorter one is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.config import birth_threshold, check_range, frames_at_rate
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices, overlap_matrix
from jde_ray.models.tracking.stages import match_overlap
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore
from jde_ray.models.tracking.trackers.jde import FIRST_FRAME

_DUPLICATE_OVERLAP = 0.85


@dataclass(frozen=True, kw_only=True)
class ByteTrackConfig:
    """Settings of ByteTrack; the defaults are the paper's and the authors'.

    Overlap limits are costs: 1 - IoU, or 1 - IoU x score where scores are fused.

    Attributes:
        association: Name of the association.
        track_buffer: Frames that a lost track is kept at 30 frames a second.
        high_score: Lowest score of a strong detection.
        low_score: Lowest score of a weak detection; others are ignored.
        birth_score: Lowest score at which a detection starts a track; None is .1 above
            `high_score`.
        overlap_limit: Largest cost of the first pass.
        low_overlap_limit: Largest cost of the second pass, with weak detections (never fused).
        tentative_overlap_limit: Largest cost for tentative tracks.
        fuse_scores: Whether overlaps with strong detections are multiplied by their score.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["bytetrack"] = "bytetrack"
    track_buffer: int = 30
    high_score: float = 0.6
    low_score: float = 0.1
    birth_score: float | None = None
    overlap_limit: float = 0.9
    low_overlap_limit: float = 0.5
    tentative_overlap_limit: float = 0.7
    fuse_scores: bool = True

    def __post_init__(self) -> None:
        check_range("track_buffer", self.track_buffer, 0, 1_000_000)
        check_range("conf", self.high_score, 0.0, 1.0)
        check_range("low_score", self.low_score, 0.0, 1.0)
        check_range("birth_score", self.first_score, 0.0, 1.0)
        for name in ("overlap_limit", "low_overlap_limit", "tentative_overlap_limit"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        if not isinstance(self.fuse_scores, bool):
            raise ValueError(f"fuse_scores: got {self.fuse_scores!r}, expected true | false")

    @property
    def first_score(self) -> float:
        """Lowest score at which a detection starts a track."""
        return birth_threshold(self.birth_score, self.high_score)

    @property
    def least_score(self) -> float:
        """Score below which detections change nothing."""
        return min(self.low_score, self.high_score)

    def max_lost_frames(self, frames_per_second: float) -> int:
        """Number of frames that a lost track is kept at this rate."""
        return frames_at_rate(self.track_buffer, frames_per_second)


def associate(store: TrackStore, frame: Frame, config: ByteTrackConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, dt, max_lost = step.now, step.dt, step.max_lost
    count = store.count
    status = store.status[:count].copy()
    state = store.state[:, :count]
    state[7] *= status == TRACKED  # a lost track keeps its height
    kalman.predict(state, dt)
    births = _match(store, frame, config, status, now)
    births = births[frame.scores[births] >= config.first_score]

    unseen = store.last_frame[:count] != now
    store.status[:count][unseen & (status == TRACKED)] = LOST
    outlived = now - store.last_frame[:count] > max_lost
    gone = unseen & ((status == TENTATIVE) | outlived)
    _mark_duplicates(store, gone)
    store.remove(gone)
    start = TRACKED if now == FIRST_FRAME else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)


def _match(
    store: TrackStore,
    frame: Frame,
    config: ByteTrackConfig,
    status: NDArray[np.float64],
    now: float,
) -> Indices:
    """Run the three passes and update the matched tracks.

    Returns:
        Unmatched strong detections, ascending.
    """
    strong = frame.scores >= config.high_score
    free, waiting = np.ones(len(frame), np.bool_), np.ones(len(status), np.bool_)
    matched = taken = np.zeros(0, np.intp)
    for candidate, limit, wanted in (
        (status != TENTATIVE, config.overlap_limit, strong),
        (status == TRACKED, config.low_overlap_limit, ~strong),
        (status == TENTATIVE, config.tentative_overlap_limit, strong),
    ):
        tracks, left = (candidate & waiting).nonzero()[0], (wanted & free).nonzero()[0]
        if not len(tracks) or not len(left):
            continue
        fuse = config.fuse_scores and wanted is strong
        more, new = match_overlap(store, frame, tracks, left, limit, fuse_scores=fuse)
        waiting[more], free[new] = False, False
        matched, taken = np.concatenate((matched, more)), np.concatenate((taken, new))
    variance = kalman.innovation_variance(store.state.take(matched, axis=1))
    store.absorb(frame, matched, taken, variance, 0.0, now)
    return (strong & free).nonzero()[0]


def _mark_duplicates(store: TrackStore, gone: NDArray[np.bool_]) -> None:
    """Mark in `gone` the shorter of every overlapping pair of a tracked and a lost track."""
    status = store.status[: store.count]
    tracked = ((status == TRACKED) & ~gone).nonzero()[0]
    lost = ((status == LOST) & ~gone).nonzero()[0]
    if not len(tracked) or not len(lost):
        return
    overlap = overlap_matrix(store.boxes(tracked), store.boxes(lost), 0.0)
    rows, columns = (overlap > _DUPLICATE_OVERLAP).nonzero()
    span = store.last_frame - store.first_frame
    lost_goes = span[tracked[rows]] > span[lost[columns]]
    gone[lost[columns[lost_goes]]] = True
    gone[tracked[rows[~lost_goes]]] = True

"""SORT: a Kalman filter per box and the Hungarian method on overlap (Bewley et al., ICIP 2016).

A track is reported while it is matched, once it has been matched in `min_hits` frames in a row
after its birth or a miss; in the first `min_hits` frames of a video every matched track is
reported. More than `track_buffer` misses in a row end it. The authors assign first and reject small
overlaps afterwards; here pairs with small overlaps are excluded beforehand, which can only match
more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jde_ray.models.tracking import area_kalman
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.stages import match_overlap
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore


@dataclass(frozen=True, kw_only=True)
class SortConfig(OneThresholdConfig):
    """Settings of SORT; the defaults are the paper's and the authors'.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a track may go unmatched.
        high_score: Detections below this score are ignored.
        min_hits: Matches in a row before a track is reported.
        overlap_limit: Largest cost of a match, 1 - IoU.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["sort"] = "sort"
    track_buffer: int = 1
    high_score: float = 0.5
    min_hits: int = 3
    overlap_limit: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 0, 100)
        check_range("overlap_limit", self.overlap_limit, 0.0, 1.0)


def associate(store: TrackStore, frame: Frame, config: SortConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, dt, max_lost = step.now, step.dt, step.max_lost
    count = store.count
    area_kalman.predict(store.state[:, :count], dt)
    store.hits[:count][store.status[:count] == LOST] = 0.0  # SORT counts matches in a row
    everyone = np.arange(len(frame))
    matched, taken = match_overlap(store, frame, np.arange(count), everyone, config.overlap_limit)
    variance = area_kalman.innovation_variance(store.state[:, :count])
    store.absorb(frame, matched, taken, variance.take(matched, axis=1), 0.0, now)

    is_early = now <= config.min_hits
    unseen = store.last_frame[:count] != now
    store.status[:count][unseen] = LOST
    if not is_early:
        store.status[:count][~unseen & (store.hits[:count] < config.min_hits)] = TENTATIVE
    store.remove(unseen & (now - store.last_frame[:count] > max_lost))
    births = np.delete(everyone, taken)
    start = TRACKED if is_early or config.min_hits == 0 else TENTATIVE
    first = store.count
    store.append(frame, births, store.take_ranks(len(births)), start, now)
    store.hits[first : store.count] = 0.0

"""C-BIoU: overlap of enlarged boxes, in two passes (Yang et al., WACV 2023).

Boxes of tracks and detections grow on every side by a share of their size before their overlap is
computed (buffered IoU), so that people who move irregularly or fast still overlap with themselves.
The first pass enlarges little and matches the sure pairs; the second one enlarges more and matches
what is left. Tracks move at the mean velocity of their last observations; there is no filter. The
authors published no code: what the paper leaves open (births, confirmation, weak detections) is as
in SORT and ByteTrack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jde_ray.models.tracking import mean_velocity
from jde_ray.models.tracking.config import birth_threshold, check_range, frames_at_rate
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.stages import match_overlap
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore
from jde_ray.models.tracking.trackers.jde import FIRST_FRAME


@dataclass(frozen=True, kw_only=True)
class CBiouConfig:
    """Settings of C-BIoU.

    Attributes:
        association: Name of the association.
        track_buffer: Frames that a lost track is kept at 30 frames a second.
        high_score: Detections below this score are ignored.
        birth_score: Lowest score at which a detection starts a track; None is .1 above
            `high_score`.
        min_hits: Matches in a row before a track is reported; tracks of the first frame need none.
        first_growth: Share of their size by which boxes grow on every side in the first pass.
        second_growth: The same in the second pass.
        overlap_limit: Largest cost of a match in either pass, 1 - IoU of the enlarged boxes.

    Raises:
        ValueError: If a value is out of range, or the second pass enlarges less than the first.
    """

    association: Literal["cbiou"] = "cbiou"
    track_buffer: int = 60
    high_score: float = 0.5
    birth_score: float | None = None
    min_hits: int = 2
    first_growth: float = 0.3
    second_growth: float = 0.5
    overlap_limit: float = 0.9

    def __post_init__(self) -> None:
        check_range("track_buffer", self.track_buffer, 0, 1_000_000)
        check_range("conf", self.high_score, 0.0, 1.0)
        check_range("birth_score", self.first_score, 0.0, 1.0)
        check_range("min_hits", self.min_hits, 1, 100)
        check_range("first_growth", self.first_growth, 0.0, 10.0)
        check_range("second_growth", self.second_growth, self.first_growth, 10.0)
        check_range("overlap_limit", self.overlap_limit, 0.0, 1.0)

    @property
    def first_score(self) -> float:
        """Lowest score at which a detection starts a track."""
        return birth_threshold(self.birth_score, self.high_score)

    @property
    def least_score(self) -> float:
        """Score below which detections change nothing."""
        return self.high_score

    def max_lost_frames(self, frames_per_second: float) -> int:
        """Number of frames that a lost track is kept at this rate."""
        return frames_at_rate(self.track_buffer, frames_per_second)


def associate(store: TrackStore, frame: Frame, config: CBiouConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now = step.now
    store.remove(now - store.last_frame[: store.count] > step.max_lost)
    count = store.count
    status = store.status[:count].copy()
    mean_velocity.predict(store.state[:, :count], step.dt)
    waiting, free = np.ones(count, np.bool_), np.ones(len(frame), np.bool_)
    for growth in (config.first_growth, config.second_growth):
        tracks, left = waiting.nonzero()[0], free.nonzero()[0]
        if not len(tracks) or not len(left):
            break
        matched, taken = match_overlap(
            store, frame, tracks, left, config.overlap_limit, growth=growth
        )
        waiting[matched], free[taken] = False, False
        store.absorb(frame, matched, taken, np.zeros((4, len(matched))), 0.0, now)

    young = ~waiting & (status == TENTATIVE) & (store.hits[:count] < config.min_hits)
    store.status[:count][young] = TENTATIVE
    store.status[:count][waiting & (status == TRACKED)] = LOST
    store.remove(waiting & (status == TENTATIVE))
    births = free.nonzero()[0]
    births = births[frame.scores[births] >= config.first_score]
    start = TRACKED if now == FIRST_FRAME or config.min_hits == 1 else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)

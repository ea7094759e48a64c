"""The association of one video: detections of a frame in, tracks of that frame out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jde_ray.models.structures import TrackerState, Tracks
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.frame import Frame, Step, build_frame
from jde_ray.models.tracking.registry import AssociationConfig, associate, build_store
from jde_ray.models.tracking.track import STORE_ARRAYS, TrackStore
from jde_ray.models.tracking.trackers.jde import FIRST_FRAME

_STATE_KIND = "jde-tracker 2"  # raise the number when the meaning of a state changes
_JITTER = 0.05  # of a frame: containers round time stamps, to 1/1000 s for example


class JDETracker:
    """Keeps the identities of the people of one video from frame to frame.

    It keeps time and the table of tracks; which association works on them is the settings' matter.
    Ids count from 1 in order of first appearance and belong to the instance. Memory is bounded by
    the largest number of tracks alive at once, however long the video.

    Args:
        config: Settings: `TrackingConfig` for our own association, or those of another
            (`models.tracking.registry`).
        frames_per_second: Nominal rate of the video: the unit of time of the motion model and of
            the lost-track buffer.

    Attributes:
        num_frames: Frames seen.
        num_degenerate: Detections ignored because their box has no area.

    Raises:
        ValueError: If the rate is not positive and finite.
    """

    def __init__(self, config: AssociationConfig, frames_per_second: float) -> None:
        if not 0 < frames_per_second < math.inf:
            raise ValueError(f"frames_per_second: got {frames_per_second}, expected above 0")
        self.config = config
        self.frames_per_second = float(frames_per_second)
        self.num_frames = 0
        self.num_degenerate = 0
        self._max_lost = config.max_lost_frames(frames_per_second)
        self._now = FIRST_FRAME
        self._time_s: float | None = None
        self._store: TrackStore | None = None

    def update(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        embeddings: ArrayLike | None = None,
        *,
        time_s: float | None = None,
    ) -> Tracks:
        """Associate the detections of the next frame.

        Args:
            boxes: `(N, 4)` tlbr in source pixels. Those without area are left out and counted, with
                a warning if they end before they begin.
            scores: `(N,)` confidence in [0, 1].
            embeddings: `(N, D)` appearance; D may be 0, which None means, and stays the same for a
                video. A frame of nobody (three empty arrays of any shape) fixes nothing.
            time_s: Presentation time of the frame: the motion model then steps by the real time
                since the last frame. None, and mode `published`: one frame at the nominal rate.

        Returns:
            Tracks present in this frame.

        Raises:
            ValueError: If shapes disagree, a number is not finite or a score outside [0, 1]; the
                tracker is unchanged.
        """
        frame = build_frame(boxes, scores, embeddings, self.config.least_score)
        if time_s is not None and not math.isfinite(time_s):
            raise ValueError(f"time_s: got {time_s}, expected a finite number")
        store = self._store = self._store_for(frame, np.size(scores) == 0)
        dt = self._step(time_s)
        self.num_degenerate += frame.num_degenerate
        self.num_frames += 1
        now, max_lost = self._now, float(self._max_lost)
        if isinstance(self.config, TrackingConfig):
            if self.config.mode == "published":
                now = float(self.num_frames)
            else:  # a single step of up to a second ends no track, however short the buffer
                max_lost = max(max_lost, min(dt, self.frames_per_second))
        associate(store, frame, self.config, Step(now, dt, max_lost, self.frames_per_second))
        return store.report(frame.source)

    def get_state(self) -> TrackerState:
        """The whole state between two frames, for a checkpoint.

        Returns:
            Arrays that share no memory with the tracker; `np.savez` and `np.load` without pickle
            keep them. Settings are not among them: `set_state` of a tracker with the same ones
            continues as this one would, row for row.
        """
        state: TrackerState = {
            "kind": np.array(self._kind),
            "clock": np.array(
                [
                    self.frames_per_second,
                    self._now,
                    np.nan if self._time_s is None else self._time_s,
                ]
            ),
            "frames": np.array([self.num_frames, self.num_degenerate], np.int64),
        }
        return state if self._store is None else state | self._store.get_state()

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become the tracker that gave this state; what was seen so far is forgotten.

        Args:
            state: Of `get_state`; the arrays are copied.

        Raises:
            ValueError: If it is no such state, or one of another association, mode or frame rate;
                the tracker is unchanged.
        """
        kind = self._kind
        known = str(state["kind"]) if "kind" in state else "no state of a tracker"
        if known != kind:
            raise ValueError(f"tracker state: got {known!r}, expected {kind!r}")
        rate, now, time_s = (float(value) for value in state["clock"])
        if rate != self.frames_per_second:
            raise ValueError(
                f"tracker state: got {rate} frames a second, expected {self.frames_per_second}"
            )
        store = None
        if all(name in state for name in STORE_ARRAYS):
            store = TrackStore(0)
            store.set_state({name: state[name] for name in STORE_ARRAYS})
        self._store, self._now = store, now
        self._time_s = None if math.isnan(time_s) else time_s
        self.num_frames, self.num_degenerate = (int(value) for value in state["frames"])

    def _store_for(self, frame: Frame, is_of_nobody: bool) -> TrackStore:
        """The table of tracks, as wide as the embeddings; a frame of nobody takes its width.

        Raises:
            ValueError: If there have been tracks of another width.
        """
        store, width = self._store, frame.embeddings.shape[1]
        if store is None or (store.is_unused and not is_of_nobody and width != store.width):
            return build_store(self.config, width)
        if is_of_nobody:
            frame.embeddings = np.zeros((0, store.width), np.float32)
        elif width != store.width:
            raise ValueError(
                f"embeddings: got width {width}, expected {store.width} as in the first frame"
            )
        return store

    @property
    def _kind(self) -> str:
        """Kind of a state: the state of another association cannot be read."""
        config = self.config
        name = config.mode if isinstance(config, TrackingConfig) else config.association
        return f"{_STATE_KIND} {name}"

    def _step(self, time_s: float | None) -> float:
        """Frames since the last frame, and the clock advanced by them."""
        dt = 1.0
        if time_s is not None and self._time_s is not None:
            dt = _whole_if_close((time_s - self._time_s) * self.frames_per_second)
        if self.num_frames:
            self._now += dt
        if time_s is not None:
            self._time_s = float(time_s)
        elif self._time_s is not None:
            self._time_s += 1 / self.frames_per_second
        return dt


def _whole_if_close(frames: float) -> float:
    """A step of time without the rounding of time stamps.

    A constant rate makes it exactly 1, which is the plain filter; so does a clock that stands
    still or goes back.

    >>> _whole_if_close(0.99), _whole_if_close(1.4), _whole_if_close(-3.0)
    (1.0, 1.4, 1.0)
    """
    if frames <= _JITTER:
        return 1.0
    nearest = float(round(frames))
    return nearest if abs(frames - nearest) <= _JITTER else frames

"""The association of one video: detections of a frame in, tracks of that frame out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jde_ray.models.structures import Detections, TrackerState, Tracks
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.frame import Frame, Step, build_frame, build_frames
from jde_ray.models.tracking.registry import (
    AssociationConfig,
    associate,
    build_store,
    check_width,
    least_score,
    settled,
)
from jde_ray.models.tracking.track import STORE_ARRAYS, TrackStore
from jde_ray.models.tracking.trackers.jde import FIRST_FRAME

_STATE_KIND = "jde-tracker 4"  # raise the number when the meaning of a state changes
_IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # the motion of a camera that stands
_JITTER = 0.05  # in frames: containers round time stamps, to 1/1000 s for example


class JDETracker:
    """Keeps the identities of the people of one video from frame to frame.

    It holds the clock and the table of tracks; the settings choose the association that updates
    them. Each instance counts its ids from 1 in order of first appearance. Memory depends on the
    largest number of live tracks, not on the length of the video.

    Args:
        config: `TrackingConfig` for our own association, or the settings of another one
            (`models.tracking.registry`).
        frames_per_second: Nominal rate of the video, which sets the unit of time of the motion
            model and of the lost-track buffer.

    Attributes:
        num_frames: Number of frames seen.
        num_degenerate: Number of detections ignored because their box has no area.

    Raises:
        ValueError: If the rate is not positive and finite, or a file that the settings name is
            refused.
    """

    def __init__(self, config: AssociationConfig, frames_per_second: float) -> None:
        is_number = isinstance(frames_per_second, Real)
        if not is_number or not 0 < frames_per_second < math.inf:
            text = f"frames_per_second: got {frames_per_second!r}, expected a number above 0"
            raise ValueError(text)
        self.config = settled(config)
        self.frames_per_second = float(frames_per_second)
        self.num_frames = 0
        self.num_degenerate = 0
        self._max_lost = config.max_lost_frames(frames_per_second)
        self._least = config.least_score
        self._least_blind = least_score(config, has_embeddings=False)
        self._now = FIRST_FRAME
        self._time_s: float | None = None
        self._store: TrackStore | None = None

    def update(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        embeddings: ArrayLike | None = None,
        *,
        quality: ArrayLike | None = None,
        time_s: float | None = None,
        camera_motion: ArrayLike | None = None,
    ) -> Tracks:
        """Associate the detections of the next frame.

        Args:
            boxes: `(N, 4)` tlbr in source pixels. Boxes without area are left out and counted, with
                a warning if x2 < x1 or y2 < y1.
            scores: `(N,)` confidence in [0, 1].
            embeddings: `(N, D)` appearance; None means D = 0. D is the same for all frames of a
                video; a frame without detections (three empty arrays of any shape) may come first.
            quality: `(N,)` qualities of the pictures behind the embeddings, 0 or more, in all
                frames of a video or in none; only `poi` uses them. None: all count alike.
            time_s: Presentation time of the frame in seconds; the motion model advances by the real
                time since the last frame. With None, and in mode `published`, it advances by one
                frame at the nominal rate.
            camera_motion: `(2, 3)` affine map from source pixels of the last frame to those of this
                one; all tracks move with it before they are predicted. None and the identity move
                none; mode `published` ignores it.

        Returns:
            Tracks present in this frame.

        Raises:
            ValueError: If shapes disagree, a number is not finite, a score outside [0, 1], or D is
                not what the association has learned; the tracker is unchanged.
        """
        is_blind = embeddings is None or not np.size(embeddings)
        least = self._least_blind if is_blind else self._least
        frame = build_frame(boxes, scores, embeddings, least, quality)
        return self.advance(frame, time_s, camera_motion, is_of_nobody=not np.size(scores))

    def follow(
        self,
        found: Detections,
        *,
        time_s: float | None = None,
        camera_motion: ArrayLike | None = None,
    ) -> Tracks:
        """`update` by the detections of a network, whose float16 embeddings are widened."""
        return self.update(
            found.tlbr,
            found.scores,
            found.embeddings.astype(np.float32),
            quality=found.quality,
            time_s=time_s,
            camera_motion=camera_motion,
        )

    def prepare(self, found: Sequence[Detections]) -> list[Frame] | None:
        """Frames for `advance`, of successive frames at once, which is faster than one by one.

        Returns:
            None if `update` has to look at each of them, since something is left out or refused.
        """
        is_blind = not any(one.embeddings.size for one in found)
        return build_frames(found, self._least_blind if is_blind else self._least)

    def advance(
        self,
        frame: Frame,
        time_s: float | None,
        camera_motion: ArrayLike | None,
        *,
        is_of_nobody: bool,
    ) -> Tracks:
        """Associate the next frame, which `prepare` has made; the rest is as in `update`.

        Args:
            frame: Detections that take part.
            time_s: As in `update`.
            camera_motion: As in `update`.
            is_of_nobody: Whether nothing was detected, so that any width of embeddings fits.
        """
        if time_s is not None and not math.isfinite(time_s):
            raise ValueError(f"time_s: got {time_s}, expected a finite number")
        motion = None if camera_motion is None else _checked_motion(camera_motion)
        store = self._store = self._store_for(frame, is_of_nobody)
        dt = self._step(time_s)
        self.num_degenerate += frame.num_degenerate
        self.num_frames += 1
        now, max_lost = self._now, float(self._max_lost)
        if isinstance(self.config, TrackingConfig):
            if self._is_published:
                now = float(self.num_frames)
            else:  # a single step of up to a second ends no track, even if the buffer is shorter
                max_lost = max(max_lost, min(dt, self.frames_per_second))
        if motion is not None and not self._is_published:
            store.move(motion)
        associate(store, frame, self.config, Step(now, dt, max_lost, self.frames_per_second))
        return store.report(frame.source)

    @property
    def time_s(self) -> float | None:
        """Time of the last frame in seconds; None if no frame had one yet."""
        return self._time_s

    def get_state(self) -> TrackerState:
        """The complete state between two frames, for a checkpoint.

        Returns:
            Arrays that share no memory with the tracker and that `np.savez` stores without pickle.
            Settings are not included: a tracker with the same settings that restores this state
            with `set_state` continues exactly like this one.
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
        """Replace the tracker's state by a saved one.

        Args:
            state: Arrays from `get_state`; they are copied.

        Raises:
            ValueError: If they are no such state, or the state of another association, mode or
                frame rate; the tracker is unchanged.
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
            fresh = build_store(self.config, store.width)
            got, expected = len(store.extra), len(fresh.extra)
            if got != expected:  # as written by a former version
                raise ValueError(f"tracker state: got {got} numbers per track, expected {expected}")
        self._store, self._now = store, now
        self._time_s = None if math.isnan(time_s) else time_s
        self.num_frames, self.num_degenerate = (int(value) for value in state["frames"])

    def _store_for(self, frame: Frame, is_of_nobody: bool) -> TrackStore:
        """The table of tracks for the width of this frame's embeddings; an empty frame fits any.

        Raises:
            ValueError: If earlier tracks have another width, or the association has learned one.
        """
        store, width = self._store, frame.embeddings.shape[1]
        if not is_of_nobody:
            check_width(self.config, width)
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
    def _is_published(self) -> bool:
        return isinstance(self.config, TrackingConfig) and self.config.mode == "published"

    @property
    def _kind(self) -> str:
        """Kind of a state: states of other associations and modes are refused."""
        config = self.config
        name = config.mode if isinstance(config, TrackingConfig) else config.association
        return f"{_STATE_KIND} {name}"

    def _step(self, time_s: float | None) -> float:
        """Advance the clock to this frame; return the time since the last one, in frames."""
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


def _checked_motion(values: ArrayLike) -> NDArray[np.float64] | None:
    """The camera's motion; None if it is the identity, which changes nothing.

    Raises:
        ValueError: If it is not six finite numbers, or not a map that has an inverse.
    """
    motion = np.asarray(values, np.float64)
    numbers = motion.ravel().tolist()
    if motion.shape != (2, 3) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"camera_motion: got {motion.tolist()}, expected (2, 3) finite numbers")
    if numbers[0] * numbers[4] == numbers[1] * numbers[3]:
        raise ValueError(f"camera_motion: got {motion.tolist()}, expected a map with an inverse")
    return None if numbers == _IDENTITY else motion


def _whole_if_close(frames: float) -> float:
    """A time step without the rounding of time stamps.

    At a constant rate it is exactly 1, which is the plain filter; it is also 1 if the clock stands
    still or runs backwards.

    >>> _whole_if_close(0.99), _whole_if_close(1.4), _whole_if_close(-3.0)
    (1.0, 1.4, 1.0)
    """
    if frames <= _JITTER:
        return 1.0
    nearest = float(round(frames))
    return nearest if abs(frames - nearest) <= _JITTER else frames

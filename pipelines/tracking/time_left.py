"""The time left of a run: frames still to come, by file headers and sizes, and their pace."""

from __future__ import annotations

from collections.abc import Sequence

from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.structures import Video

# In the first seconds the frames of several detectors arrive together, after they were loaded: a
# pace measured then promises an end within seconds.
_SETTLING_S = 2.0


class ExpectedFrames:
    """Frames that a run will track: opened videos count by their headers, others by file size.

    No video is opened for the estimate. A wrong header affects only the remaining time shown.

    Args:
        videos: All videos to track.
        config: Stride and frame limit.
    """

    def __init__(self, videos: Sequence[Video], config: TrackConfig) -> None:
        self._stride, self._most = config.vid_stride, config.max_frames
        self._unopened = {video.video_id: video.num_bytes for video in videos}
        self._bytes_unopened = sum(self._unopened.values())
        self._opened = self._bytes_opened = self._frames = self._done_before = 0

    def learn(self, video_id: str, num_frames: int) -> None:
        """Record that a video was opened, and the number of frames in its header."""
        num_bytes = self._unopened.pop(video_id, None)
        if num_bytes is None:
            return
        frames = -(-num_frames // self._stride)
        self._frames += frames if self._most is None else min(frames, self._most)
        self._opened += 1
        self._bytes_opened += num_bytes
        self._bytes_unopened -= num_bytes

    def continue_from(self, start_frame: int) -> None:
        """Record that a video continues from a checkpoint, without its earlier frames."""
        self._done_before += -(-start_frame // self._stride)

    def left(self, frames: int) -> int | None:
        """Frames left when `frames` are done; None before the first video was opened."""
        if not self._opened:
            return None
        by_bytes = self._bytes_opened and self._bytes_unopened
        share = self._bytes_unopened / self._bytes_opened if by_bytes else 0.0
        if not by_bytes:  # without sizes, estimate by the number of videos
            share = len(self._unopened) / self._opened
        total = self._frames * (1 + share)
        return max(0, round(total - self._done_before - frames))


class Pace:
    """Frames per second since the first ones arrived, without the start of the workers."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None  # when they came, and how many
        self._now, self._frames = 0.0, 0

    def note(self, now: float, frames: int) -> None:
        """Note that `frames` are done at the time `now`, in seconds."""
        if self._first is None and frames:
            self._first = now, frames
        self._now, self._frames = now, frames

    def seconds_for(self, frames: int) -> float | None:
        """Seconds that so many frames will take; None before the pace is known."""
        if self._first is None:
            return None
        since, first = self._first
        passed, done = self._now - since, self._frames - first
        return frames * passed / done if done > 0 and passed >= _SETTLING_S else None

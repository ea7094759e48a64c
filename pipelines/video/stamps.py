"""Time stamps of a file: the time of each frame, and the frames that are missing.

A time depends only on the neighbouring frames, and if all stamps rise only on the frame's own
stamp. Splitting a video into segments or resuming it therefore does not change the times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import av

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.video.containers import Opened

# Codecs in which every packet is a frame. Others have packets that are never shown (VP8) or that
# repeat the previous frame (MPEG-4). Only these two containers guarantee one frame per packet.
_FRAME_CODECS = ("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9", "mjpeg")
_FRAME_CONTAINERS = ("iso", "matroska")
_RESTART_S = 1.0  # a stamp this far behind the last one starts another recording


class Clock:
    """Presentation times in seconds from the container's start, strictly rising.

    A stamp is used if it is later than the last time and not later than the next stamp. Any other
    frame gets a time in between, so that the following frames keep their own stamps. In a file
    without stamps the times are `frame / rate`.

    Args:
        opened: Container whose frames are timed.
    """

    def __init__(self, opened: Opened) -> None:
        self._rate = opened.rate
        self._base = float(opened.stream.time_base or 0)
        self._start = (opened.container.start_time or 0) / av.time_base
        container = opened.structure.container
        # AVI stores no presentation times: for reordered frames libav returns decode times
        has_times = not (container == "avi" and opened.stream.codec_context.has_b_frames)
        self._has_times = has_times and self._base > 0
        # transport streams may be joined from recordings that start at any time; the other
        # containers have one time line, and only they are split into segments
        self._may_restart = container not in _FRAME_CONTAINERS
        self._last = self._anchor = -math.inf
        self._repeats = self._count = 0

    def timed(self, frames: Iterator[Any]) -> Iterator[tuple[Any, float, bool]]:
        """Frames in order, each with its time and whether that is its own stamp.

        A frame is held back until the next one is decoded; an error is raised after it.

        Args:
            frames: Frames in the decoder's order.

        Raises:
            VideoError: If `frames` raises it.
        """
        held = None
        try:
            for frame in frames:
                if held is not None:
                    yield held, *self._time(held.pts, frame.pts)
                held = frame
        except VideoError:
            if held is not None:
                yield held, *self._time(held.pts, None)
            raise
        if held is not None:
            yield held, *self._time(held.pts, None)

    def _time(self, pts: int | None, next_pts: int | None) -> tuple[float, bool]:
        own, following = self._stamp(pts), self._stamp(next_pts)
        if own is not None and own > self._last and not self._is_ahead(own, following):
            time, is_own = own, True
        else:
            time = max(self._between(own, following), math.nextafter(self._last, math.inf))
            is_own = False
        if is_own or own is None:
            self._anchor, self._repeats = time, 0
        self._last = time
        self._count += 1
        return time, is_own

    def _is_ahead(self, own: float, following: float | None) -> bool:
        return following is not None and own > following > self._last

    def _stamp(self, pts: int | None) -> float | None:
        return None if pts is None or not self._has_times else pts * self._base - self._start

    def _between(self, own: float | None, following: float | None) -> float:
        """A time for a frame whose own stamp cannot be used."""
        if not self._has_times:
            return self._count / self._rate
        if self._count == 0:
            return 0.0 if following is None else following - 1 / self._rate
        if following is not None and following > self._last:
            return (self._last + following) / 2
        if own is None:
            return self._last + 1 / self._rate
        if self._may_restart and own < self._last - _RESTART_S:
            self._start -= self._last + 1 / self._rate - own
            return self._last + 1 / self._rate
        self._repeats += 1  # the time stays below all later stamps, for any number of repeats
        return self._anchor + self._base * self._repeats / (self._repeats + 1)


class Unseen:
    """Stamps of packets for which the decoder has returned no frame.

    A decoder leaves out frames that it cannot decode, often without an error. Not all of them are
    lost: a recording may start between keyframes, and frames that are shown before its first
    keyframe may refer to frames that were not recorded.

    Args:
        opened: Container that is decoded; nothing is counted if its packets need not be frames.

    Attributes:
        is_from_key: Whether the container marks the first packet as a keyframe, which must then be
            decodable.
    """

    def __init__(self, opened: Opened) -> None:
        codec = opened.stream.codec_context.name
        container = opened.structure.container
        self._has_keys = container in _FRAME_CONTAINERS
        self._is_exact = self._has_keys and codec in _FRAME_CODECS
        self._index = opened.stream.index_entries
        self._waiting: set[int] = set()
        self.is_from_key = False
        self._start: int | None = None
        self._num_sent = 0

    def sent(self, packet: Any) -> None:
        """Record a packet before it is decoded."""
        if not packet.size or packet.is_discard or packet.pts is None:
            return
        if self._num_sent == 0 and self._has_keys and self._is_key(packet):
            self.is_from_key, self._start = True, packet.pts
        self._num_sent += 1
        if self._is_exact:
            self._waiting.add(packet.pts)

    def _is_key(self, packet: Any) -> bool:
        if packet.is_keyframe:
            return True
        first = self._index[0] if len(self._index) else None  # a damaged packet loses its flag
        return (
            first is not None and first.is_keyframe and first.timestamp in (packet.pts, packet.dts)
        )

    def got(self, frame: Any) -> None:
        """Record a decoded frame; two fields in separate packets form one frame."""
        if frame.pts is None or frame.interlaced_frame:
            self._is_exact = False
        elif self._start is None:
            self._start = frame.pts
        self._waiting.discard(frame.pts)

    def count(self, before: int | None = None) -> int:
        """Number of frames that are certainly lost.

        Args:
            before: Count only frames before this stamp; later ones may still be returned.
        """
        start = self._start
        if not self._is_exact or start is None:
            return 0
        return sum(start <= pts and (before is None or pts < before) for pts in self._waiting)

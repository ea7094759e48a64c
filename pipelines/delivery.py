"""How a worker reaches the association actor that owns a video: by name, without waiting on order.

Every pass over the videos has actors of its own, so a call that is late by a pass finds nobody.
"""

from __future__ import annotations

import time
import zlib
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError

from pipelines import wire
from pipelines.schema import Delivery, DetectionChunk, Segment

Answer = Literal["ok", "dup", "fenced", "skip", "halt"]  # halt: the owner cannot write any more

_PATIENCE_S = 600.0
_POLL_S = 0.5


def shard_of(video_id: str, num_shards: int) -> int:
    """Which of the association actors owns a video; the same on every machine."""
    return zlib.crc32(video_id.encode()) % num_shards


def shard_name(pass_id: str, shard: int) -> str:
    """Name of an association actor; `pass_id` is unique over all runs of a cluster."""
    return f"jde-{pass_id}-associate-{shard}"


class Owners:
    """The association actors of a pass, seen from a decode task or a detector.

    Args:
        pass_id: Of the pass.
        num_shards: How many actors it has.
    """

    def __init__(self, pass_id: str, num_shards: int) -> None:
        self._pass_id, self._num_shards = pass_id, num_shards
        self._handles: dict[int, Any] = {}

    def begin(self, video_id: str, attempt: int, chunk_index: int) -> Answer:
        """Announce work on a chunk; anything but `ok` says that it need not be done.

        The owner counts, so that a chunk which kills its worker is given up in the end.
        """
        answer: Answer = self._ask(video_id, "begin", video_id, attempt, chunk_index)
        return answer

    def deliver(self, chunk: DetectionChunk) -> Answer | Delivery:
        """Hand a chunk over; may be repeated. A dead owner answers `fenced`."""
        answer: Answer = self._ask(chunk.video_id, "deliver", wire.pack(chunk))
        return answer

    def begin_decode(self, segment: Segment) -> Any:
        """Announce the decoding of a segment.

        Returns:
            None to go ahead. A number if there is no point: decoding has killed its worker too
            often after so many chunks, its video has ended, or the owner has died.
        """
        answer = self._ask(segment.video.video_id, "begin_decode", segment)
        return 0 if answer == "fenced" else answer

    def await_turn(self, segment: Segment, first_chunk: int, most_ahead: int) -> None:
        """Wait while a segment is too far ahead of what its video's association works on.

        What arrives early waits on the owner's disk. Only for a time: the chunk that is missing
        may need the very place that waits here.
        """
        video_id, end = segment.video.video_id, time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            reached = self._ask(video_id, "reached", video_id, segment.attempt)
            if not isinstance(reached, int) or first_chunk - reached <= most_ahead:
                return
            time.sleep(_POLL_S)

    def decoded(self, segment: Segment, num_chunks: int, *, ended: bool) -> None:
        """Say how far decoding has come, without waiting."""
        try:
            place = (segment.video.video_id, segment.start_frame)
            self._owner(segment.video.video_id).decoded.remote(*place, num_chunks, ended)
        except (RayActorError, ValueError):
            self._handles.clear()

    def _ask(self, video_id: str, method: str, *values: Any) -> Any:
        try:
            return ray.get(getattr(self._owner(video_id), method).remote(*values))
        except (RayActorError, ValueError):  # ValueError: no actor of that name
            self._handles.clear()
            return "fenced"

    def _owner(self, video_id: str) -> Any:
        shard = shard_of(video_id, self._num_shards)
        if shard not in self._handles:
            self._handles[shard] = ray.get_actor(shard_name(self._pass_id, shard))
        return self._handles[shard]

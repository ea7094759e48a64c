"""How a worker reaches the association actor that owns a video: by name, without waiting on order.

Every pass over the videos has actors of its own, so a call that is late by a pass finds nobody.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError

from jde_ray.pipelines.structures import (
    Answer,
    Decoded,
    Delivery,
    DetectionChunk,
    FrameChunk,
    Segment,
)
from jde_ray.pipelines.tracking.stages import wire_format

_PATIENCE_S = 600.0
_POLL_S = 0.5


def shard_of(video_id: str, num_shards: int, attempt_id: str = "") -> int:
    """Which of the association actors owns a video; the same on every machine.

    Each pass deals anew, so that what one actor has left is shared by all of the next pass.
    """
    # no CRC: names that share one value of it would share all, whatever is put before them
    digest = hashlib.blake2b(f"{attempt_id}/{video_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % num_shards


def shard_name(attempt_id: str, shard: int) -> str:
    """Name of an association actor; `attempt_id` is unique over all runs of a cluster."""
    return f"jde-{attempt_id}-associate-{shard}"


class ShardClient:
    """The association actors of a pass, seen from a decode task or a detector.

    Args:
        attempt_id: Of the pass.
        num_shards: How many actors it has.
    """

    def __init__(self, attempt_id: str, num_shards: int) -> None:
        self._pass_id, self._num_shards = attempt_id, num_shards
        self._handles: dict[int, Any] = {}

    def begin(self, chunk: FrameChunk) -> Answer:
        """Announce work on a chunk; anything but `ok` says that it need not be done.

        The owner counts, so that a chunk which kills its worker is given up in the end.
        """
        key = (chunk.video_id, chunk.attempt, chunk.chunk_index)
        answer: Answer = self._ask(chunk.video_id, "begin", *key)
        return answer

    def begin_all(self, chunks: Sequence[FrameChunk]) -> list[Answer] | None:
        """Announce work on several chunks at once.

        Returns:
            An answer each; None asks to announce them one by one, since a worker has died over
            some of them and it must be seen over which.
        """
        values = [(chunk.video_id, chunk.attempt, chunk.chunk_index) for chunk in chunks]
        owned = [chunk.video_id for chunk in chunks]
        answers: list[Answer] | None = self._ask_all(owned, "begin_all", values)
        return answers

    def deliver(self, chunk: DetectionChunk) -> Answer | Delivery:
        """Hand over a chunk that was begun; may be repeated. `lost` if its owner is dead."""
        answer: Answer = self._ask(chunk.video_id, "deliver", wire_format.pack(chunk), lost="lost")
        return answer

    def deliver_all(self, chunks: Sequence[DetectionChunk]) -> list[Answer]:
        """Hand over several chunks that were begun; an answer each."""
        values = [wire_format.pack(chunk) for chunk in chunks]
        owned = [chunk.video_id for chunk in chunks]
        return self._ask_all(owned, "deliver_all", values, lost="lost") or []

    def begin_decode(self, segment: Segment) -> int | None:
        """Announce the decoding of a segment.

        Returns:
            None to go ahead. A number if there is no point: decoding has killed its worker too
            often after so many chunks, its video has ended, or the owner has died.
        """
        answer = self._ask(segment.video.video_id, "begin_decode", segment)
        return 0 if answer == "fenced" else answer

    def begin_decode_all(self, segments: Sequence[Segment]) -> list[int | None] | None:
        """Announce the decoding of several segments at once; None: as in `begin_all`."""
        owned = [segment.video.video_id for segment in segments]
        answers = self._ask_all(owned, "begin_decode_all", segments)
        return answers and [0 if answer == "fenced" else answer for answer in answers]

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

    def decoded(self, progress: Iterable[Decoded]) -> None:
        """Say how far decoding has come, without waiting."""
        by_shard: dict[int, list[Decoded]] = {}
        for one in progress:
            by_shard.setdefault(shard_of(one.video_id, self._num_shards, self._pass_id), []).append(
                one
            )
        for shard, said in by_shard.items():
            try:
                self._owner(shard).decoded.remote(said)
            except (RayActorError, ValueError):
                self._handles.clear()

    def _ask(self, video_id: str, method: str, *values: Any, lost: str = "fenced") -> Any:
        try:
            shard = shard_of(video_id, self._num_shards, self._pass_id)
            return ray.get(getattr(self._owner(shard), method).remote(*values))
        except (RayActorError, ValueError):  # ValueError: no actor of that name
            self._handles.clear()
            return lost

    def _ask_all(
        self, owned: Sequence[str], method: str, values: Sequence[Any], lost: str = "fenced"
    ) -> Any:
        """One call to each owner; its answers at the places of its values. None if one says so."""
        places: dict[int, list[int]] = {}
        for place, video_id in enumerate(owned):
            places.setdefault(shard_of(video_id, self._num_shards, self._pass_id), []).append(place)
        waiting: dict[int, Any] = {}
        answers: list[Any] = [lost] * len(values)
        for shard, own in places.items():
            with suppress(RayActorError, ValueError):
                call = getattr(self._owner(shard), method)
                waiting[shard] = call.remote([values[place] for place in own])
        given: list[Any] = []
        for shard, answer in waiting.items():
            try:
                given.append(ray.get(answer))
            except RayActorError:
                continue
            for place, one in zip(places[shard], given[-1] or (), strict=False):
                answers[place] = one
        if len(given) < len(places):  # one of them is dead
            self._handles.clear()
        return None if None in given else answers

    def _owner(self, shard: int) -> Any:
        if shard not in self._handles:
            self._handles[shard] = ray.get_actor(shard_name(self._pass_id, shard))
        return self._handles[shard]

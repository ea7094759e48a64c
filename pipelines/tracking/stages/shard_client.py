"""Calls of a worker to the association shard of a video: by name, without waiting for an order.

Every attempt has its own shards, so a late call of an earlier attempt reaches none of them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError

from jde_ray.pipelines.structures import (
    Decoded,
    DecodeGrant,
    DetectionChunk,
    FrameChunk,
    Segment,
    Verdict,
)
from jde_ray.pipelines.tracking.stages import wire_format

_PATIENCE_S = 600.0
_POLL_S = 0.5


def shard_of(video_id: str, num_shards: int, attempt_id: str = "") -> int:
    """Index of the association shard of a video; the same on every machine.

    Each attempt assigns the videos differently, so that the videos of a dead shard are spread over
    all shards of the next attempt.
    """
    # not a CRC: names with equal CRCs would share a shard for any prefix
    digest = hashlib.blake2b(f"{attempt_id}/{video_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % num_shards


def shard_name(attempt_id: str, shard: int) -> str:
    """Name of the shard's actor; `attempt_id` is unique over all runs of a cluster."""
    return f"jde-{attempt_id}-associate-{shard}"


class ShardClient:
    """Calls to the association shards of an attempt, from a decode task or a detector.

    Args:
        attempt_id: Names the shards.
        num_shards: Number of shards of the attempt.
    """

    def __init__(self, attempt_id: str, num_shards: int) -> None:
        self._attempt_id, self._num_shards = attempt_id, num_shards
        self._handles: dict[int, Any] = {}

    def begin(self, chunk: FrameChunk) -> Verdict:
        """Announce work on a chunk; with any verdict but TAKEN it need not be done.

        The shard counts the tries, and gives up on a chunk that keeps killing its workers.
        """
        key = (chunk.video_id, chunk.attempt, chunk.chunk_index)
        answer: Verdict = self._ask(chunk.video_id, "begin", *key)
        return answer

    def begin_all(self, chunks: Sequence[FrameChunk]) -> list[Verdict] | None:
        """Announce work on several chunks at once.

        Returns:
            A verdict per chunk. None asks to announce them one by one, since a worker has died
            over one of them, and it is not known over which.
        """
        values = [(chunk.video_id, chunk.attempt, chunk.chunk_index) for chunk in chunks]
        owned = [chunk.video_id for chunk in chunks]
        answers: list[Verdict] | None = self._ask_all(owned, "begin_all", values)
        return answers

    def deliver(self, chunk: DetectionChunk) -> Verdict:
        """Deliver a chunk that was begun; may be repeated. LOST if its shard is dead."""
        answer: Verdict = self._ask(
            chunk.video_id, "deliver", wire_format.pack(chunk), lost=Verdict.LOST
        )
        return answer

    def send_all(self, chunks: Sequence[DetectionChunk]) -> Callable[[], list[Verdict]]:
        """Send several chunks that were begun; the returned function waits for their verdicts."""
        values = [wire_format.pack(chunk) for chunk in chunks]
        owned = [chunk.video_id for chunk in chunks]
        answers: Callable[[], list[Verdict]] = self._call_all(
            owned, "deliver_all", values, lost=Verdict.LOST
        )
        return answers

    def begin_decode(self, segment: Segment) -> DecodeGrant:
        """Announce the decoding of a segment; refused too if its shard is dead."""
        refused = DecodeGrant(go=False)
        grant: DecodeGrant = self._ask(
            segment.video.video_id, "begin_decode", segment, lost=refused
        )
        return grant

    def begin_decode_all(self, segments: Sequence[Segment]) -> list[DecodeGrant] | None:
        """Announce the decoding of several segments; None asks to announce them one by one."""
        owned = [segment.video.video_id for segment in segments]
        refused = DecodeGrant(go=False)
        grants: list[DecodeGrant] | None = self._ask_all(
            owned, "begin_decode_all", segments, lost=refused
        )
        return grants

    def await_turn(self, segment: Segment, first_chunk: int, most_ahead: int) -> None:
        """Wait while a segment is too far ahead of the chunk that its video waits for.

        Chunks that arrive early fill the shard's disk. The wait is limited: the missing chunk may
        need the slot that is waiting here.
        """
        video_id, end = segment.video.video_id, time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            reached = self._ask(video_id, "reached", video_id, segment.attempt)
            if not isinstance(reached, int) or first_chunk - reached <= most_ahead:
                return
            time.sleep(_POLL_S)

    def decoded(self, progress: Iterable[Decoded]) -> None:
        """Report the progress of decoding, without waiting for an answer."""
        by_shard: dict[int, list[Decoded]] = {}
        for one in progress:
            by_shard.setdefault(
                shard_of(one.video_id, self._num_shards, self._attempt_id), []
            ).append(one)
        for shard, said in by_shard.items():
            try:
                self._shard(shard).decoded.remote(said)
            except (RayActorError, ValueError):
                self._handles.clear()

    def _ask(self, video_id: str, method: str, *values: Any, lost: Any = Verdict.STALE) -> Any:
        try:
            shard = shard_of(video_id, self._num_shards, self._attempt_id)
            return ray.get(getattr(self._shard(shard), method).remote(*values))
        except (RayActorError, ValueError):  # ValueError: no actor of that name
            self._handles.clear()
            return lost

    def _ask_all(
        self, owned: Sequence[str], method: str, values: Sequence[Any], lost: Any = Verdict.STALE
    ) -> Any:
        """Make one call per shard; return an answer per value, or None if a shard answers None."""
        return self._call_all(owned, method, values, lost)()

    def _call_all(
        self, owned: Sequence[str], method: str, values: Sequence[Any], lost: Any
    ) -> Callable[[], Any]:
        """Make one call per shard; the returned function waits for what `_ask_all` returns."""
        places: dict[int, list[int]] = {}
        for place, video_id in enumerate(owned):
            places.setdefault(shard_of(video_id, self._num_shards, self._attempt_id), []).append(
                place
            )
        waiting: dict[int, Any] = {}
        answers: list[Any] = [lost] * len(values)
        for shard, own in places.items():
            with suppress(RayActorError, ValueError):
                call = getattr(self._shard(shard), method)
                waiting[shard] = call.remote([values[place] for place in own])

        def wait() -> Any:
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

        return wait

    def _shard(self, shard: int) -> Any:
        handle = self._handles.get(shard)  # another thread may clear them at any moment
        if handle is None:
            handle = self._handles[shard] = ray.get_actor(shard_name(self._attempt_id, shard))
        return handle

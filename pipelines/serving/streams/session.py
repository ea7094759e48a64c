"""One session: the order, association, snapshots and resuming of its streams. Without Ray."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.streams.counting import has_places
from jde_ray.pipelines.serving.streams.operations import (
    CountStreams,
    EndStream,
    GetAnswer,
    GetExpected,
    GetFigures,
    OpenStream,
    Operation,
    Result,
    TrackFrame,
)
from jde_ray.pipelines.serving.streams.snapshots import SnapshotStore, dump, load
from jde_ray.pipelines.serving.streams.stream import Answer, Stream, StreamTable, lost

logger = logging.getLogger(__name__)


class Session:
    """Executes operations on the streams of one replica, and keeps their snapshots.

    Args:
        config: Association, filters, limits and how often a snapshot is taken.
        snapshots: Store of the snapshots.
        number: Number of this session, which the ids of its streams begin with.

    Attributes:
        table: The open streams.
        num_resumed: Streams read from a snapshot.
        num_expired: Streams that ended because they were idle.
        num_unkept: Snapshots that could not be written.
    """

    def __init__(self, config: ServeConfig, snapshots: SnapshotStore, number: int = 0) -> None:
        limits = config.limits
        self._config, self._snapshots = config, snapshots
        # the service refuses malformed ids before they come here; an ended stream's lock is dropped
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.num_resumed = self.num_expired = self.num_unkept = 0
        self.table = StreamTable(
            config.track, config.model, number, idle_s=limits.idle_s, max_ids=limits.max_ids
        )
        self._operations: dict[type[Operation[Any]], Callable[[Any], Awaitable[Any]]] = {
            OpenStream: self._open,
            GetExpected: self._expected,
            GetAnswer: self._repeated,
            TrackFrame: self._track,
            EndStream: self._end,
            CountStreams: self._count,
            GetFigures: self._figures,
        }

    async def execute(self, operation: Operation[Result]) -> Result:
        """Execute one operation.

        Raises:
            Refusal: If the stream is not open, or the frame is neither the next one nor one of
                those whose answers are kept.
        """
        result: Result = await self._operations[type(operation)](operation)
        return result

    async def _open(self, operation: OpenStream) -> str:
        places, camera = self._config.places, operation.camera
        if places is not None and not has_places(places, camera):
            raise Refusal(Cause.INVALID, f"camera: no place is of camera {camera!r}")
        stream = self.table.open(operation.owner, operation.frames_per_second, camera)
        await self._keep(stream)
        return stream.name

    async def _expected(self, operation: GetExpected) -> int:
        async with self._locks[operation.stream]:
            return (await self._find(operation.stream, operation.owner)).expected

    async def _repeated(self, operation: GetAnswer) -> Answer | None:
        async with self._locks[operation.stream]:
            return (await self._find(operation.stream, operation.owner)).repeated(operation.seq)

    async def _track(self, operation: TrackFrame) -> Answer:
        """Associate a frame, and keep its snapshot before it is answered."""
        async with self._locks[operation.stream]:
            stream = await self._find(operation.stream, operation.owner)
            answer = stream.repeated(operation.seq)
            if answer is None:
                size, picture, config = operation.size, operation.picture, self._config.track
                # in a thread: OpenCV works for about a millisecond, and other streams need not wait
                motion = await asyncio.to_thread(stream.motion_to, picture, size, config)
                found, places = operation.detections, self._config.places
                answer = stream.track(
                    operation.time_s, size, found, config, picture, motion, places
                )
            if stream.expected - stream.snapshot_seq >= self._config.snapshot_every:
                await self._keep(stream)
            return answer

    async def _end(self, operation: EndStream) -> list[dict[str, Any]]:
        async with self._locks[operation.stream]:
            stream = await self._find(operation.stream, operation.owner)
            await self._forget(operation.stream)
            return [] if stream.counter is None else stream.counter.close()

    async def _count(self, operation: CountStreams) -> int:
        await self.expire()
        return self.table.count(operation.owner)

    async def _figures(self, _: GetFigures) -> dict[str, float]:
        await self.expire()
        return {
            "jde_streams": len(self.table),
            "jde_streams_resumed": self.num_resumed,
            "jde_streams_expired": self.num_expired,
            "jde_snapshots_failed": self.num_unkept,
        }

    async def expire(self) -> None:
        """End idle streams."""
        for name in self.table.expire():
            self.num_expired += 1
            await self._forget(name)

    async def keep_all(self) -> None:
        """Take snapshots of the streams that have advanced since their last one."""
        for name in list(self._locks):
            async with self._locks[name]:
                stream = self.table.peek(name)
                if stream is not None and stream.expected > stream.snapshot_seq:
                    await self._keep(stream)

    async def _keep(self, stream: Stream) -> None:
        """Take a snapshot. A failing store is counted, and must not stop the stream."""
        try:
            await self._snapshots.put(stream.name, dump(stream))
        except Exception as error:  # noqa: BLE001  any error of the store
            self.num_unkept += 1
            logger.warning("a snapshot could not be kept: %s", type(error).__name__)
        else:
            stream.snapshot_seq = stream.expected

    async def _find(self, name: str, owner: str) -> Stream:
        try:
            return self.table.get(name, owner)
        except Refusal as refusal:
            if refusal.cause is not Cause.SESSION_LOST or self.table.has(name):
                self._locks.pop(name, None)
                raise
            missing = refusal
        content = await self._snapshots.get(name)
        if content is None:
            self._locks.pop(name, None)
            raise missing
        try:
            stream = load(content, self._config.track, self._config.places)
        except ValueError as error:  # other settings, or an older version's snapshot
            logger.warning("a snapshot cannot be used: %s", error)
            raise lost("the service has changed; open a new stream") from error
        self.table.add(stream)
        self.num_resumed += 1
        return self.table.get(name, owner)

    async def _forget(self, name: str) -> None:
        self.table.end(name)
        self._locks.pop(name, None)
        try:
            await self._snapshots.delete(name)
        except Exception as error:  # noqa: BLE001  any error of the store; the stream has ended
            logger.warning("a snapshot could not be deleted: %s", type(error).__name__)

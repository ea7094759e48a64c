"""The work of a session replica: order, association, snapshots, resuming. Without Ray."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.streams.snapshots import SnapshotStore, dump, load
from jde_ray.pipelines.serving.streams.stream import Answer, Stream, StreamTable, lost

logger = logging.getLogger(__name__)


class Sessions:
    """The streams of one replica, and their snapshots.

    Args:
        config: Of the service.
        snapshots: Where they are kept.
        session: Number of this replica.

    Attributes:
        table: The open streams.
        num_resumed: Streams read from a snapshot.
        num_expired: Streams ended because nobody used them.
        num_unkept: Snapshots that could not be kept.
    """

    def __init__(self, config: ServeConfig, snapshots: SnapshotStore, session: int = 0) -> None:
        limits = config.limits
        self._config, self._snapshots = config, snapshots
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.num_resumed = self.num_expired = self.num_unkept = 0
        self.table = StreamTable(
            config.track, config.model, session, idle_s=limits.idle_s, max_ids=limits.max_ids
        )

    async def open(self, owner: str, frames_per_second: float) -> str:
        """Begin a stream; gives its id."""
        stream = self.table.open(owner, frames_per_second)
        await self._keep(stream)
        return stream.name

    async def expected(self, name: str, owner: str) -> int:
        """Number of the frame that a stream goes on with."""
        async with self._lock(name):
            return (await self._find(name, owner)).expected

    async def repeated(self, name: str, owner: str, seq: int) -> Answer | None:
        """The first answer to a frame sent again, None if the frame is the next one.

        Raises:
            Refusal: If the stream is not open, or the frame is neither.
        """
        async with self._lock(name):
            return (await self._find(name, owner)).repeated(seq)

    def gauges(self) -> dict[str, float]:
        """Counts of this replica, by their names in `metrics.GAUGES`."""
        return {
            "jde_streams": len(self.table),
            "jde_streams_resumed": self.num_resumed,
            "jde_streams_expired": self.num_expired,
            "jde_snapshots_failed": self.num_unkept,
        }

    async def track(
        self,
        name: str,
        owner: str,
        seq: int,
        time_s: float | None,
        size: tuple[int, int],
        found: Detections,
    ) -> Answer:
        """Associate a frame, or give the first answer again; kept before it is answered.

        Raises:
            Refusal: If the stream is not open, or the frame is not the next one.
        """
        async with self._lock(name):
            stream = await self._find(name, owner)
            answer = stream.repeated(seq)
            if answer is None:
                answer = stream.track(time_s, size, found, self._config.track.min_box_area)
            if stream.expected - stream.snapshot_seq >= self._config.snapshot_every:
                await self._keep(stream)
            return answer

    async def end(self, name: str, owner: str) -> None:
        """End a stream.

        Raises:
            Refusal: If it is not open.
        """
        async with self._lock(name):
            await self._find(name, owner)
            await self._forget(name)

    async def expire(self) -> None:
        """End idle streams."""
        for name in self.table.expire():
            self.num_expired += 1
            await self._forget(name)

    async def keep_all(self) -> None:
        """Snapshot what has gone on since its last one, before this replica ends."""
        for name in list(self._locks):
            async with self._lock(name):
                stream = self.table.peek(name)
                if stream is not None and stream.expected > stream.snapshot_seq:
                    await self._keep(stream)

    async def _keep(self, stream: Stream) -> None:
        """Snapshot a stream. A store that is away must not stop streams that are well: counted."""
        try:
            await self._snapshots.put(stream.name, dump(stream))
        except Exception as error:  # noqa: BLE001  whatever the store raises
            self.num_unkept += 1
            logger.warning("a snapshot could not be kept: %s", type(error).__name__)
        else:
            stream.snapshot_seq = stream.expected

    def _lock(self, name: str) -> asyncio.Lock:
        # ids that are none never get here, and those of ended streams are dropped with them
        return self._locks[name]

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
            stream = load(content, self._config.track)
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
        except Exception as error:  # noqa: BLE001  whatever the store raises; the stream has ended
            logger.warning("a snapshot could not be deleted: %s", type(error).__name__)

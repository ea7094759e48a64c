"""Detectors, sessions and keeper behind Serve handles; what a lost replica left is tried again."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.backend import Found
from jde_ray.pipelines.serving.config import MEMORY_PREFIX, ServeConfig
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.metrics import Changes, Metrics
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.streams.snapshots import (
    NoSnapshots,
    SharedMemorySnapshots,
    SnapshotStore,
    StoredSnapshots,
)
from jde_ray.pipelines.serving.streams.stream import Answer, session_of
from jde_ray.pipelines.storage.stores import open_store

logger = logging.getLogger("ray.serve")

_PAUSE_S = 0.05  # between tries
_KEEP_S = 2.0  # a keeper that is starting anew must not hold up streams for longer
_AWAY_S = 1.0  # streams that follow do not wait for it either
_READY_S = 5.0


def direct(handle: Any) -> Any:
    """A handle whose calls go straight from replica to replica, not by Ray's object store."""
    return handle.options(_by_reference=False)


class InProcessHandle:
    """An object of this process, called as if it were behind a handle.

    Args:
        target: With asynchronous methods.
    """

    def __init__(self, target: Any) -> None:
        self._target = target

    def options(self, **_: Any) -> InProcessHandle:
        """Itself: there is no way for the calls to take."""
        return self

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._target, name))


class RemoteBackend:
    """See `pipelines.serving.backend.Backend`.

    Args:
        config: Of the service.
        detectors: Handle of the detectors.
        sessions: Handles of the sessions, by their numbers, or what is called like them.
        keeper: Handle of the keeper.

    Attributes:
        metrics: Where second tries are counted.
    """

    def __init__(
        self, config: ServeConfig, detectors: Any, sessions: list[Any], keeper: Any
    ) -> None:
        self._config, self._detectors = config, direct(detectors)
        self._sessions, self._keeper = [direct(session) for session in sessions], direct(keeper)
        self._turn = itertools.count()
        self.metrics = Metrics()

    async def detect(self, frame: NetworkFrame) -> Found:
        """By any detector."""
        arguments = (self._config.model, frame.pixels, frame.width, frame.height)
        found: Found = await self._insist("detect", lambda: self._detectors.find.remote(*arguments))
        return found

    async def open(self, owner: str, frames_per_second: float) -> str:
        """In one session after the other."""
        session = self._sessions[next(self._turn) % len(self._sessions)]
        stream: str = await self._insist(
            "open", lambda: session.open.remote(self._config.model, owner, frames_per_second)
        )
        return stream

    async def expected(self, stream: str, owner: str) -> int:
        """Asked of the stream's session."""
        session, model = self._of(stream), self._config.model
        number: int = await self._insist(
            "ask", lambda: session.expected.remote(model, stream, owner)
        )
        return number

    async def repeated(self, stream: str, owner: str, seq: int) -> Answer | None:
        """Asked of the stream's session."""
        session, model = self._of(stream), self._config.model
        answer: Answer | None = await self._insist(
            "ask", lambda: session.repeated.remote(model, stream, owner, seq)
        )
        return answer

    async def track(
        self,
        stream: str,
        owner: str,
        seq: int,
        time_s: float | None,
        size: tuple[int, int],
        found: Detections,
    ) -> Answer:
        """In the stream's session; a second try gets the answer of the first."""
        session = self._of(stream)
        arrays = (found.tlbr, found.scores, found.embeddings)
        arguments = (self._config.model, stream, owner, seq, time_s, size, arrays)
        answer: Answer = await self._insist("associate", lambda: session.track.remote(*arguments))
        return answer

    async def end(self, stream: str, owner: str) -> None:
        """In the stream's session."""
        session = self._of(stream)
        await self._insist("end", lambda: session.end.remote(stream, owner))

    async def count(self, owner: str) -> int:
        """Over all sessions."""
        counts = [
            self._insist("count", lambda session=session: session.count.remote(owner))  # type: ignore[misc]
            for session in self._sessions
        ]
        return sum(await asyncio.gather(*counts))

    async def check_ready(self) -> None:
        """Ask a detector and every session; a running replica is a warm one."""
        blank = Refusal(Cause.UNAVAILABLE, "not ready: weights are loading", retry_after_s=1)
        try:
            async with asyncio.timeout(_READY_S):
                # Serve's own check: it returns when a replica has answered
                await asyncio.gather(
                    self._detectors.ready.remote(),
                    *(session.gauges.remote() for session in self._sessions),
                )
        except (TimeoutError, RayError, RayServeException) as error:
            raise blank from error

    async def merge(self, changes: Changes) -> tuple[Metrics, dict[str, float]]:
        """Sums from the keeper, gauges from the sessions."""
        sums: Metrics = await self._insist("merge", lambda: self._keeper.sums.remote(changes))
        parts = [
            self._insist("gauges", lambda session=session: session.gauges.remote())  # type: ignore[misc]
            for session in self._sessions
        ]
        gauges: dict[str, float] = {}
        for part in await asyncio.gather(*parts):
            for name, value in part.items():
                gauges[name] = gauges.get(name, 0.0) + value
        return sums, gauges

    async def push(self, changes: Changes) -> None:
        """Hand counts to the keeper."""
        await asyncio.wait_for(self._keeper.add.remote(changes), _KEEP_S)

    def _of(self, stream: str) -> Any:
        session = session_of(stream)
        assert session is not None  # noqa: S101 - checked by the service
        return self._sessions[session]

    async def _insist(self, stage: str, call: Callable[[], Any]) -> Any:
        """Call until a living replica has answered; the service's deadline ends it.

        All calls may be repeated: detecting keeps nothing, a session knows what it has answered.
        """
        while True:
            try:
                result = await call()
            except BackPressureError as error:
                text = "the queue is full; try again"
                raise Refusal(Cause.OVERLOADED, text, retry_after_s=1) from error
            except RayTaskError:
                raise  # a fault of the program, which a second try would only repeat
            except (RayError, RayServeException) as error:
                logger.warning("%s: a replica was lost (%s)", stage, type(error).__name__)
            else:
                if not isinstance(result, Refusal):
                    return result
                if result.cause is not Cause.UNAVAILABLE:
                    raise result
            self.metrics.count("jde_retries", stage)
            await asyncio.sleep(_PAUSE_S)


class KeptSnapshots:
    """In the keeper's memory.

    Args:
        keeper: Its handle.
    """

    def __init__(self, keeper: Any) -> None:
        self._keeper = direct(keeper)
        self._away_until_s = 0.0

    async def put(self, name: str, content: bytes) -> None:
        """Raises TimeoutError or a RayError while the keeper is away, and soon after at once."""
        if time.monotonic() < self._away_until_s:
            raise TimeoutError("the keeper is away")
        try:
            await asyncio.wait_for(self._keeper.put.remote(name, content), _KEEP_S)
        except (TimeoutError, RayError, RayServeException):
            self._away_until_s = time.monotonic() + _AWAY_S
            raise

    async def get(self, name: str) -> bytes | None:
        """Waits for the keeper: without it nobody knows whether the stream is lost."""
        content: bytes | None = await self._keeper.get.remote(name)
        return content

    async def delete(self, name: str) -> None:
        """Best effort: what is left goes by its age."""
        await asyncio.wait_for(self._keeper.delete.remote(name), _KEEP_S)


def build_snapshots(config: ServeConfig, keeper: Any) -> SnapshotStore:
    """The store that `config.snapshots` names."""
    where = config.snapshots
    if where == "none":
        return NoSnapshots()
    if where == "actor":
        return KeptSnapshots(keeper)
    if where.startswith(MEMORY_PREFIX):
        folder = Path(where.removeprefix(MEMORY_PREFIX))
        return SharedMemorySnapshots(folder, config.limits.snapshot_lasts_s)
    return StoredSnapshots(open_store(where), asyncio.to_thread)

"""The session replica: trackers of live streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from numpy.typing import NDArray

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.refusals import _CHANGING, Refusal
from jde_ray.pipelines.serving.replicas.remote import build_snapshots
from jde_ray.pipelines.serving.streams.sessions import Sessions
from jde_ray.pipelines.serving.streams.stream import Answer

_Result = TypeVar("_Result")


class SessionCalls:
    """The streams of one session: `Sessions` behind calls that return refusals as values.

    What an answer names the model of is asked for with the ingress's version: while the service is
    updated, one of another version has to wait, so that no stream sees two.

    Args:
        config: Settled.
        number: Of this session.
        keeper: Handle of the keeper.
    """

    def __init__(self, config: ServeConfig, number: int, keeper: Any) -> None:
        snapshots = build_snapshots(config, keeper)
        self._sessions = Sessions(config, snapshots, number)
        self._model = config.model
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self, model: str, owner: str, frames_per_second: float) -> str | Refusal:
        """As `Sessions.open`."""
        self._sweep_now_and_then()
        if model != self._model:
            return _CHANGING
        return await _value(self._sessions.open(owner, frames_per_second))

    async def expected(self, model: str, stream: str, owner: str) -> int | Refusal:
        """As `Sessions.expected`."""
        if model != self._model:
            return _CHANGING
        return await _value(self._sessions.expected(stream, owner))

    async def repeated(
        self, model: str, stream: str, owner: str, seq: int
    ) -> Answer | Refusal | None:
        """As `Sessions.repeated`."""
        if model != self._model:
            return _CHANGING
        return await _value(self._sessions.repeated(stream, owner, seq))

    async def track(
        self,
        model: str,
        stream: str,
        owner: str,
        seq: int,
        time_s: float | None,
        size: tuple[int, int],
        arrays: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    ) -> Answer | Refusal:
        """As `Sessions.track`, of detections by this version of the model."""
        self._sweep_now_and_then()
        if model != self._model:
            return _CHANGING
        found = Detections(*arrays)
        return await _value(self._sessions.track(stream, owner, seq, time_s, size, found))

    async def end(self, stream: str, owner: str) -> Refusal | None:
        """As `Sessions.end`."""
        return await _value(self._sessions.end(stream, owner))

    async def count(self, owner: str) -> int:
        """Open streams of a token."""
        await self._sessions.expire()
        return self._sessions.table.count(owner)

    async def gauges(self) -> dict[str, float]:
        """As Prometheus is told."""
        await self._sessions.expire()
        return self._sessions.gauges()

    def _sweep_now_and_then(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.ensure_future(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._sessions.expire()

    async def close(self) -> None:
        """Keep what has gone on since its last snapshot."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._sessions.keep_all()


class SessionReplica(SessionCalls):
    """A session in a process of its own."""

    async def __del__(self) -> None:
        await self.close()


async def _value(call: Awaitable[_Result]) -> _Result | Refusal:
    """The result of a call, or the refusal as a value: Serve would log it as a failure."""
    try:
        return await call
    except Refusal as refusal:
        return refusal

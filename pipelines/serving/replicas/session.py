"""The session replica: trackers of live streams."""

from __future__ import annotations

import asyncio
from typing import Any

from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.refusals import CHANGING, Refusal
from jde_ray.pipelines.serving.replicas.loopback import stay_on_loopback
from jde_ray.pipelines.serving.replicas.remote import build_snapshots
from jde_ray.pipelines.serving.streams.operations import Operation, Result
from jde_ray.pipelines.serving.streams.session import Session


class SessionEndpoint:
    """A session behind one call that returns refusals as values.

    While the service is updated, an ingress of another version has to wait for a session of its
    own, so that no stream sees two versions.

    Args:
        config: Resolved settings.
        number: Number of the session.
        snapshot_actor: Handle of the snapshot actor.
    """

    def __init__(self, config: ServeConfig, number: int, snapshot_actor: Any) -> None:
        self._session = Session(config, build_snapshots(config, snapshot_actor), number)
        self._model = config.model
        self._sweeping: asyncio.Task[None] | None = None

    async def execute(self, model: str, operation: Operation[Result]) -> Result | Refusal:
        """Execute an operation, or return why not: Serve would log an exception as a failure.

        Args:
            model: Version of the ingress that sends it.
            operation: The operation.
        """
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.ensure_future(self._sweep())
        if operation.needs_same_model and model != self._model:
            return CHANGING
        try:
            return await self._session.execute(operation)
        except Refusal as refusal:
            return refusal

    async def close(self) -> None:
        """Take snapshots of the streams that have advanced since their last one."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._session.keep_all()

    async def _sweep(self) -> None:
        """End idle streams, once a second."""
        while True:
            await asyncio.sleep(1.0)
            await self._session.expire()


class SessionReplica(SessionEndpoint):
    """A session in a separate process."""

    def __init__(self, config: ServeConfig, number: int, snapshot_actor: Any) -> None:
        stay_on_loopback()
        super().__init__(config, number, snapshot_actor)

    async def __del__(self) -> None:
        await self.close()

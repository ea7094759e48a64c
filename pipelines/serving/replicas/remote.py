"""Calls to detectors, sessions and the snapshot actor, repeated when a replica is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from jde_ray.pipelines.serving.backend import TimedDetections
from jde_ray.pipelines.serving.config import MEMORY_PREFIX, ServeConfig
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.metrics import Changes, Metrics
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.streams.operations import GetFigures, Operation, Result
from jde_ray.pipelines.serving.streams.snapshots import (
    NoSnapshots,
    SharedMemorySnapshots,
    SnapshotStore,
    StoredSnapshots,
)
from jde_ray.pipelines.storage.stores import open_store

logger = logging.getLogger("ray.serve")

DETECTORS = "detectors"  # the deployment
_PAUSE_S = 0.05  # between tries
_KEEP_S = 2.0  # how long a restarting snapshot actor may delay a frame
_AWAY_S = 1.0  # how long after that other frames do not wait for it
_READY_S = 5.0

SessionCall = Callable[[str, Operation[Any]], Awaitable[Any]]  # model, operation


def direct(handle: Any) -> Any:
    """A handle whose calls go directly between replicas, not through Ray's object store."""
    return handle.options(_by_reference=False)


def session_call(handle: Any) -> SessionCall:
    """The call of a session replica's `execute`."""
    session = direct(handle)

    def call(model: str, operation: Operation[Any]) -> Awaitable[Any]:
        result: Awaitable[Any] = session.execute.remote(model, operation)
        return result

    return call


class RemoteBackend:
    """The `Backend` of an ingress: calls are repeated until a living replica answers.

    Args:
        config: Settings of the service; calls carry its version of the model.
        detectors: Handle of the detectors.
        sessions: `execute` of each session, by number: `session_call`, or a method in process.
        snapshot_actor: Handle of the snapshot actor.

    Attributes:
        metrics: Receives the counts of retries.
    """

    def __init__(
        self,
        config: ServeConfig,
        detectors: Any,
        sessions: Sequence[SessionCall],
        snapshot_actor: Any,
    ) -> None:
        self._config, self._detectors = config, direct(detectors)
        self._sessions, self._snapshot_actor = sessions, direct(snapshot_actor)
        self.metrics = Metrics()

    async def detect(self, frame: NetworkFrame) -> TimedDetections:
        """Find the people in one frame, in any detector."""
        arguments = (self._config.model, frame.pixels, frame.width, frame.height)
        found: TimedDetections = await self._insist(
            "detect", lambda: self._detectors.find.remote(*arguments)
        )
        return found

    async def send(self, session: int, operation: Operation[Result]) -> Result:
        """Have a session execute an operation."""
        call, model = self._sessions[session], self._config.model
        result: Result = await self._insist(operation.stage, lambda: call(model, operation))
        return result

    async def check_ready(self) -> None:
        """Ask a detector and every session; a running replica is a warm one."""
        blank = Refusal(Cause.UNAVAILABLE, "not ready: weights are loading", retry_after_s=1)
        try:
            async with asyncio.timeout(_READY_S):
                # Serve's own check: it returns when a replica has answered
                await asyncio.gather(
                    self._detectors.ready.remote(),
                    *(call(self._config.model, GetFigures()) for call in self._sessions),
                )
        except (TimeoutError, RayError, RayServeException) as error:
            raise blank from error

    async def count_detectors(self) -> int | None:
        """Number of running replicas of the detectors, as Serve's controller knows it."""
        try:
            async with asyncio.timeout(_KEEP_S):
                return await asyncio.to_thread(_count_detectors)
        except (TimeoutError, RayError, RayServeException):
            return None

    async def merge(self, changes: Changes) -> Metrics:
        """Add counts to the snapshot actor's sums, and return them."""
        sums: Metrics = await self._insist(
            "merge", lambda: self._snapshot_actor.sums.remote(changes)
        )
        return sums

    async def push(self, changes: Changes) -> None:
        """Add counts to the snapshot actor's sums."""
        await asyncio.wait_for(self._snapshot_actor.add.remote(changes), _KEEP_S)

    async def _insist(self, stage: str, call: Callable[[], Any]) -> Any:
        """Call until a living replica answers; the service's deadline ends it.

        All calls may be repeated: detection has no state, a session knows what it has answered.
        """
        while True:
            try:
                result = await call()
            except BackPressureError as error:
                text = "the queue is full; try again"
                raise Refusal(Cause.OVERLOADED, text, retry_after_s=1) from error
            except RayTaskError:
                raise  # a bug, which a second try would only repeat
            except (RayError, RayServeException) as error:
                logger.warning("%s: a replica was lost (%s)", stage, type(error).__name__)
            else:
                if not isinstance(result, Refusal):
                    return result
                if result.cause is not Cause.UNAVAILABLE:
                    raise result
            self.metrics.count("jde_retries", stage)
            await asyncio.sleep(_PAUSE_S)


def _count_detectors() -> int:
    application = serve.status().applications[serve.get_replica_context().app_name]
    states = application.deployments[DETECTORS].replica_states
    return sum(number for state, number in states.items() if state == "RUNNING")


class ActorSnapshots:
    """Snapshots in the memory of the snapshot actor.

    Args:
        snapshot_actor: Handle of the actor.
    """

    def __init__(self, snapshot_actor: Any) -> None:
        self._snapshot_actor = direct(snapshot_actor)
        self._away_until_s = 0.0

    async def put(self, name: str, content: bytes) -> None:
        """Replace a snapshot.

        Raises:
            TimeoutError: If the snapshot actor does not answer, or has not for the last second.
            RayError: If it is lost.
        """
        if time.monotonic() < self._away_until_s:
            raise TimeoutError("the snapshot actor is away")
        try:
            await asyncio.wait_for(self._snapshot_actor.put.remote(name, content), _KEEP_S)
        except (TimeoutError, RayError, RayServeException):
            self._away_until_s = time.monotonic() + _AWAY_S
            raise

    async def get(self, name: str) -> bytes | None:
        """The newest snapshot; waits for the actor, which alone knows if the stream is lost."""
        content: bytes | None = await self._snapshot_actor.get.remote(name)
        return content

    async def delete(self, name: str) -> None:
        """Delete a snapshot, if the actor answers; else it is dropped by its age."""
        await asyncio.wait_for(self._snapshot_actor.delete.remote(name), _KEEP_S)


def build_snapshots(config: ServeConfig, snapshot_actor: Any) -> SnapshotStore:
    """The store that `config.snapshots` names."""
    where = config.snapshots
    if where == "none":
        return NoSnapshots()
    if where == "actor":
        return ActorSnapshots(snapshot_actor)
    if where.startswith(MEMORY_PREFIX):
        folder = Path(where.removeprefix(MEMORY_PREFIX))
        return SharedMemorySnapshots(folder, config.limits.snapshot_lasts_s)
    return StoredSnapshots(open_store(where), asyncio.to_thread)

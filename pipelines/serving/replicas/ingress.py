"""What runs in the replicas: a detector, a session, an ingress. `deployments` wires them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jde_ray.models.structures import Detections
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.serving.admission import Tokens, read_tokens
from jde_ray.pipelines.serving.api.guard import App
from jde_ray.pipelines.serving.api.routes import build_api
from jde_ray.pipelines.serving.api.server import Listener
from jde_ray.pipelines.serving.backend import Found
from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.images import network_size
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.replicas.remote import (
    InProcessHandle,
    RemoteBackend,
    build_snapshots,
)
from jde_ray.pipelines.serving.request_log import RequestLog
from jde_ray.pipelines.serving.service import Service
from jde_ray.pipelines.serving.streams.sessions import Sessions
from jde_ray.pipelines.serving.streams.stream import Answer
from jde_ray.pipelines.structures import VideoInfo
from numpy.typing import NDArray
from ray import serve

logger = logging.getLogger("ray.serve")

_Result = TypeVar("_Result")
_Pixels = tuple[NDArray[np.uint8], int, int]  # letterboxed; width and height of the source
_CHANGING = Refusal(Cause.UNAVAILABLE, "the service is changing", retry_after_s=1)
_DRAIN_S = 15.0  # less than Serve allows a replica to stop in
_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_MMAP_FROM_BYTES = 1 << 20
_FLOOD_BYTES = 32 << 20  # of images held: when they have gone, what was around them goes too
_NOT_FINITE = Refusal(Cause.INTERNAL, "the network gave no finite numbers")


class DetectorReplica:
    """The offline `Detector`, loaded once and warmed up; batches frames of any streams.

    Args:
        config: Settled.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._broken: str | None = None
        detection = config.track.detection
        # one thread loads and runs the network, so that the event loop answers health checks
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        resources = ResourceConfig(device=config.device, torch_threads=config.torch_threads)
        self._detector = self._thread.submit(
            Detector, detection, resources, config.parts.model
        ).result()
        self._batch = config.batch or 1
        blank = np.full((detection.size[1], detection.size[0], 3), 128, np.uint8)
        for _ in range(2):
            self._thread.submit(self._find, [(blank, 640, 360)]).result()
        self._batched.set_max_batch_size(self._batch)  # type: ignore[attr-defined]
        self._batched.set_batch_wait_timeout_s(config.batch_wait_s)  # type: ignore[attr-defined]

    async def find(
        self, model: str, pixels: NDArray[np.uint8], width: int, height: int
    ) -> Found | Refusal:
        """Detections of one frame, if it was made ready for this version of the model."""
        detection = self._config.track.detection
        wanted = network_size(width, height, detection.size, rect=detection.rect)
        if model != self._config.model or pixels.shape != (wanted[1], wanted[0], 3):
            return _CHANGING
        frame = (pixels, width, height)
        if self._batch == 1:  # the thread's own queue is all that is needed
            loop = asyncio.get_running_loop()
            return (await loop.run_in_executor(self._thread, self._find, [frame]))[0]
        found: Found | Refusal = await self._batched(frame)
        return found

    async def ready(self) -> bool:
        """True: a replica that answers is warmed up."""
        return True

    def check_health(self) -> None:
        """Serve replaces this replica when its device is broken."""
        if self._broken is not None:
            raise RuntimeError(self._broken)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def _batched(self, frames: list[_Pixels]) -> list[Found | Refusal]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._find, frames)

    def _find(self, frames: list[_Pixels]) -> list[Found | Refusal]:
        """A batch; the frames of one shape go through the network together."""
        results: list[Found | Refusal] = [_NOT_FINITE] * len(frames)
        shapes = [pixels.shape for pixels, _, _ in frames]
        for shape in dict.fromkeys(shapes):
            places = [place for place, other in enumerate(shapes) if other == shape]
            started = time.perf_counter()
            try:
                found = self._run([frames[place] for place in places])
            except (VideoError, FloatingPointError):
                logger.exception("the network gave no finite numbers")
                continue
            except Exception as error:
                self._broken = type(error).__name__
                raise
            seconds = time.perf_counter() - started
            for place, detections in zip(places, found, strict=True):
                results[place] = Found(detections, seconds)
        return results

    def _run(self, frames: list[_Pixels]) -> list[Detections]:
        """One run of the network, padded to a full batch: the same arithmetic every time."""
        pixels = np.zeros((self._batch, *frames[0][0].shape), np.uint8)
        for place, (frame, _, _) in zip(pixels, frames, strict=False):
            place[:] = frame
        infos = [VideoInfo(width, height, 1.0) for _, width, height in frames]
        return self._detector.find(pixels, infos, range(len(frames)))[0]


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


class IngressReplica:
    """Receives, checks and decodes; knows neither torch nor the trackers.

    Args:
        config: Settled.
        detectors: Handle of the detectors.
        sessions: Handles of the sessions, by their numbers; with none the one there is lives here.
        keeper: Handle of the keeper.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, config: ServeConfig, detectors: Any, sessions: list[Any], keeper: Any
    ) -> None:
        _give_memory_back()
        tokens = () if config.token_file is None else read_tokens(config.token_file)
        self._session = None if sessions else SessionCalls(config, 0, keeper)
        backend = RemoteBackend(
            config, detectors, sessions or [InProcessHandle(self._session)], keeper
        )
        self._service = Service(config, backend, Tokens(tokens))
        backend.metrics = self._service.metrics
        await self._service.start()
        self._log = RequestLog(config.request_log)
        self._api = build_api(self._service, self._log)
        self._listener: Listener | None = None
        if config.listen is not None:
            self._listener = Listener(
                self._api,
                config.listen,
                config.limits.max_body_bytes,
                memory=self._service.memory,
                message_s=config.limits.body_s,
            )
            await self._listener.open()
        self._pushing = asyncio.ensure_future(self._push())

    def __serve_build_asgi_app__(self) -> App:
        return self._api

    async def __del__(self) -> None:
        if self._listener is not None:
            await self._listener.close(_DRAIN_S)
        if self._session is not None:
            await self._session.close()
        self._service.close()
        await asyncio.to_thread(self._log.close)

    async def _push(self) -> None:
        """Hand counts on, so that they outlive this replica."""
        most = 0
        while True:
            await asyncio.sleep(1.0)
            held = self._service.memory.held
            if most > _FLOOD_BYTES and held < most // 2:
                most = 0
                _trim_memory()
            most = max(most, held)
            await self._service.push_metrics()


async def _value(call: Awaitable[_Result]) -> _Result | Refusal:
    """The result of a call, or the refusal as a value: Serve would log it as a failure."""
    try:
        return await call
    except Refusal as refusal:
        return refusal


def _give_memory_back() -> None:
    """Images go back to the system as soon as they are freed.

    Unless told so, glibc keeps blocks of up to 32 MiB for itself once it has seen such a one: after
    a flood of big images an ingress would stay as big as it was then. Elsewhere nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)


def _trim_memory() -> None:
    """Freed blocks between used ones go back to the system; a few milliseconds."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

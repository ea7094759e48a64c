"""The ingress replica: HTTP and WebSocket in, detectors and sessions behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
from typing import Any

from jde_ray.pipelines.serving.admission import Tokens, read_tokens
from jde_ray.pipelines.serving.api.guard import App
from jde_ray.pipelines.serving.api.routes import build_api
from jde_ray.pipelines.serving.api.server import Listener
from jde_ray.pipelines.serving.calls import Service
from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.replicas.loopback import stay_on_loopback
from jde_ray.pipelines.serving.replicas.remote import RemoteBackend, session_call
from jde_ray.pipelines.serving.replicas.session import SessionEndpoint
from jde_ray.pipelines.serving.request_log import RequestLog

logger = logging.getLogger("ray.serve")

_DRAIN_S = 15.0  # less than the time that Serve gives a replica to stop
_M_MMAP_THRESHOLD = -3  # parameter of mallopt(3)
_MMAP_FROM_BYTES = 1 << 20
_FLOOD_BYTES = 32 << 20  # after more bytes of images than this, memory is trimmed


class IngressReplica:
    """Receives, checks and decodes images; it does not load torch.

    Args:
        config: Resolved settings.
        detectors: Handle of the detectors.
        sessions: Handles of the sessions, by number; empty if the only session runs here.
        snapshot_actor: Handle of the snapshot actor.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, config: ServeConfig, detectors: Any, sessions: list[Any], snapshot_actor: Any
    ) -> None:
        stay_on_loopback()
        _give_memory_back()
        tokens = () if config.token_file is None else read_tokens(config.token_file)
        calls = [session_call(session) for session in sessions]
        self._session: SessionEndpoint | None = None
        if not calls:
            self._session = SessionEndpoint(config, 0, snapshot_actor)
            calls = [self._session.execute]
        backend = RemoteBackend(config, detectors, calls, snapshot_actor)
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
        gc.collect()
        gc.freeze()  # exclude long-lived objects from garbage collection
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
        """Send counts once a second, so that they outlive this replica; trim memory."""
        most = 0
        while True:
            await asyncio.sleep(1.0)
            held = self._service.memory.held
            if most > _FLOOD_BYTES and held < most // 2:
                most = 0
                _trim_memory()
            most = max(most, held)
            await self._service.push_metrics()


def _give_memory_back() -> None:
    """Return the memory of images to the system as soon as they are freed.

    By default glibc keeps blocks of up to 32 MiB once one of that size was freed, so after a flood
    of big images an ingress would never shrink. Without glibc this does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)


def _trim_memory() -> None:
    """Return unused memory to the system, which takes some 30 ms."""
    gc.collect()  # closed connections are reference cycles and hold received bytes
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

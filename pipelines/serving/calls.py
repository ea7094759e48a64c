"""One method per call, for REST and WebSocket alike: the steps of a frame. Without Ray or HTTP."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.admission import Rates, Tokens
from jde_ray.pipelines.serving.admission_queue import AdmissionQueue
from jde_ray.pipelines.serving.backend import Backend
from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.decoding.pool import Decoders
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.metrics import Metrics
from jde_ray.pipelines.serving.quotas import ConcurrencyLimit, MemoryBudget
from jde_ray.pipelines.serving.refusals import Cause, Refusal, too_large
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
from jde_ray.pipelines.serving.streams.stream import Answer, session_of

logger = logging.getLogger("ray.serve")

_MAX_HINTS = 10_000
_PROBE, _PROBE_S = "/readyz", 2.0  # owner of the probe (no token's digest), and its deadline
# a white pixel
_PROBE_IMAGE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63f80f0001010100b138f6140000000049454e44ae426082"
)
# In-flight frames of sockets per detector without batches. Serve spreads them unevenly: with 1 or 2
# the detectors are idle for 5 to 10 % of the time, with 3 for 2 %.
_SOCKETS_RUNNING = 3


class Service:
    """Applies limits, runs the stages of a frame, and counts.

    Args:
        config: Resolved settings.
        backend: Detectors and sessions.
        tokens: The accepted tokens.
        decoders: Decoding processes; None: the service starts its own.
    """

    def __init__(
        self,
        config: ServeConfig,
        backend: Backend,
        tokens: Tokens,
        decoders: Decoders | None = None,
    ) -> None:
        limits = config.limits
        self.config, self.limits, self.backend, self.tokens = config, limits, backend, tokens
        self.metrics = Metrics()
        detectors = config.num_detectors * (config.batch or 1)
        # sized so that the other ingresses carry the load when one is lost
        share = max(1, -(-detectors // max(1, config.num_ingresses - 1)))
        one_by_one = (config.batch or 1) == 1
        running = limits.max_running or (1 if one_by_one else 2)
        sockets = max(running, _SOCKETS_RUNNING) if one_by_one else running
        self.queue = AdmissionQueue(running * share, limits.max_waiting * share, sockets * share)
        self.rates = Rates(limits.frames_per_second)
        own = limits.token_share if tokens.are_asked_for else 1.0
        self.memory = MemoryBudget(limits.max_image_bytes, int(own * limits.max_image_bytes))
        self.bodies = ConcurrencyLimit("bodies are arriving", limits.max_bodies, own)
        self.sockets = ConcurrencyLimit("sockets are open", limits.max_sockets, own)
        self._opening, self._turn = asyncio.Lock(), itertools.count()
        self._next: OrderedDict[str, int] = (
            OrderedDict()
        )  # after the frame that this ingress answered last
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        self._decoders = decoders or Decoders(config.num_decoders or max(2, min(4, cores)))

    async def start(self) -> None:
        """Return when images can be decoded, so that the first ones need not wait.

        Raises:
            RuntimeError: If a decoding process does not start.
        """
        await self._decoders.start()

    def close(self) -> None:
        """End the decoding processes."""
        self._decoders.close()

    async def read_body(
        self, owner: str, parts: AsyncIterator[bytes], max_bytes: int | None = None
    ) -> bytes:
        """Read a whole body, within its time and size. It needs no slot of the queue yet.

        Args:
            owner: Digest of the caller's token.
            parts: The body in pieces, as they arrive.
            max_bytes: Largest body; None: the limit on images.

        Raises:
            Refusal: `body_too_slow`; `body_too_large` at the first byte beyond the limit;
                `overloaded` if too many bodies or bytes are held already.
        """
        most = self.limits.max_body_bytes if max_bytes is None else max_bytes
        body = bytearray()
        try:
            with self.bodies.hold(owner), self._timed("body"):
                async with asyncio.timeout(self.limits.body_s):
                    async for part in parts:
                        if len(body) + len(part) > most:
                            raise too_large(most)
                        if max_bytes is None and self.memory.is_full(owner):
                            text = "too many bytes of images are here unanswered; try again"
                            raise Refusal(Cause.OVERLOADED, text, retry_after_s=1)
                        body += part
                        self.memory.take(owner, len(part))
        except TimeoutError:
            text = f"body: it must arrive within {self.limits.body_s:g} s"
            raise Refusal(Cause.BODY_TOO_SLOW, text) from None
        finally:
            self.memory.give(owner, len(body))
        return bytes(body)

    def socket(self, owner: str) -> AbstractContextManager[None]:
        """Count an open socket, which may hold some images, while the block runs.

        Raises:
            Refusal: `overloaded`.
        """
        return self.sockets.hold(owner)

    def check_admission(self, owner: str) -> None:
        """Refuse a frame without a free slot or over the rate, before its image is read.

        Raises:
            Refusal: `overloaded` or `too_many_frames`.
        """
        self.queue.check(owner)
        self.rates.take(owner)

    async def check_ready(self) -> None:
        """Raise `unavailable` unless a frame of a new client would be answered soon.

        Raises:
            Refusal: `unavailable`.
        """
        leaving = self.config.leaving_file
        if leaving is not None and Path(leaving).exists():
            raise Refusal(Cause.UNAVAILABLE, "the service is about to stop", retry_after_s=1)
        limits = replace(self.limits, decode_s=_PROBE_S)
        try:
            async with asyncio.timeout(_PROBE_S):
                detection = self.config.track.detection
                await self._decoders.decode(_PROBE, _PROBE_IMAGE, detection, limits)
                async with self.queue.slot(_PROBE, unbounded=True):
                    pass
        except (TimeoutError, Refusal, RuntimeError) as error:
            text = f"not ready: a frame has waited for {_PROBE_S:g} s"
            raise Refusal(Cause.UNAVAILABLE, text, retry_after_s=1) from error
        await self.backend.check_ready()

    async def detect(
        self, owner: str, body: bytes, *, unbounded: bool = False, call: str = "detect"
    ) -> tuple[NetworkFrame, Detections]:
        """Decode an image and find the people in it.

        Args:
            owner: Owner of the image.
            body: The image.
            unbounded: Wait for a slot even if many frames already do, and decode the image in the
                meantime. The image of a call that may be refused is decoded once it has its slot.
            call: Name under which the frame is counted, `detect` or `frame`.

        Raises:
            Refusal: If the image is refused, or there is no slot for it.
        """
        async with self._deadline():
            frame = await self._decode(owner, body) if unbounded else None
            asked = time.perf_counter()
            async with self.queue.slot(owner, unbounded=unbounded):
                self.metrics.observe("wait", time.perf_counter() - asked)
                frame = frame or await self._decode(owner, body)
                found = await self.backend.detect(frame)
        self.metrics.observe("detect", found.seconds)
        self.metrics.count("jde_frames", call)
        self.metrics.count("jde_detections", number=len(found.detections))
        return frame, found.detections

    async def first_answer(self, stream: str, owner: str, seq: int) -> Answer | None:
        """Check a frame's number before its image is read.

        Returns:
            The first answer if the frame was answered before, None if it is the next one.

        Raises:
            Refusal: If there is no such stream, or the frame is not its next one.
        """
        session = self.check_stream(stream)
        if self._next.get(stream) == seq:
            return None  # probably the next one; the session has the last word
        async with self._deadline():
            return await self.backend.send(session, GetAnswer(stream, owner, seq))

    async def associate(self, operation: TrackFrame) -> Answer:
        """Tracks of a frame whose detections are known.

        Raises:
            Refusal: If the frame is not the stream's next one.
        """
        session = self.check_stream(operation.stream)
        with self._timed("associate"):
            async with self._deadline():
                answer = await self.backend.send(session, operation)
        self._next[operation.stream] = operation.seq + 1
        self._next.move_to_end(operation.stream)
        while len(self._next) > _MAX_HINTS:
            self._next.popitem(last=False)
        self.metrics.count("jde_tracks", number=len(answer.track_ids))
        return answer

    async def open(self, owner: str, frames_per_second: float, camera: str = "") -> str:
        """Open a stream; returns its id.

        Raises:
            Refusal: `too_many_streams`.
        """
        async with self._deadline(), self._opening:
            if sum(await self._send_all(CountStreams(owner))) >= self.limits.max_streams:
                text = f"streams: expected at most {self.limits.max_streams} open ones of a token"
                raise Refusal(Cause.TOO_MANY_STREAMS, text, retry_after_s=self.limits.idle_s)
            session = next(self._turn) % self.config.num_sessions
            wanted = OpenStream(owner, frames_per_second, camera)
            stream = await self.backend.send(session, wanted)
        self._next[stream] = 0
        return stream

    async def end(self, stream: str, owner: str) -> list[dict[str, Any]]:
        """End a stream; returns the events of the people who were still present."""
        session = self.check_stream(stream)
        self._next.pop(stream, None)
        async with self._deadline():
            return await self.backend.send(session, EndStream(stream, owner))

    async def expected(self, stream: str, owner: str) -> int:
        """Number of the next frame of a stream."""
        session = self.check_stream(stream)
        async with self._deadline():
            return await self.backend.send(session, GetExpected(stream, owner))

    def check_stream(self, stream: str) -> int:
        """Number of the session that a stream's id names.

        Raises:
            Refusal: `no_such_stream` if it names none.
        """
        session = session_of(stream)
        if session is None or session >= self.config.num_sessions:
            raise Refusal(Cause.NO_SUCH_STREAM, "there is no such stream")
        return session

    async def push_metrics(self) -> None:
        """Add this ingress's counts to the sums; unsent counts are kept for the next call."""
        changes = self.metrics.take()
        try:
            if changes:
                await self.backend.push(changes)
        except Exception as error:  # noqa: BLE001  the snapshot actor is restarting
            self.metrics.add(changes)
            logger.warning("counts could not be handed on: %s", type(error).__name__)

    async def render_metrics(self) -> bytes:
        """Metrics of all replicas as Prometheus text."""
        sums = await self.backend.merge(self.metrics.take())
        sessions = await self._send_all(GetFigures())
        config = self.config
        gauges = {
            "jde_streams": sum(session["jde_streams"] for session in sessions),
            "jde_detectors": await self.backend.count_detectors(),
            "jde_detectors_wanted": config.min_detectors or config.num_detectors,
            "jde_frames_running": self.queue.running,
            "jde_frames_running_limit": self.queue.max_running,
            "jde_frames_waiting": self.queue.waiting,
            "jde_frames_waiting_limit": self.queue.max_waiting,
            "jde_bodies_arriving": self.bodies.number,
            "jde_bodies_arriving_limit": self.bodies.most,
            "jde_image_bytes": self.memory.held,
            "jde_image_bytes_limit": self.memory.total,
            "jde_sockets": self.sockets.number,
            "jde_sockets_limit": self.sockets.most,
        }
        return sums.render(gauges, sessions, config.model)

    async def _send_all(self, operation: Operation[Result]) -> list[Result]:
        """The results of all sessions."""
        sessions = range(self.config.num_sessions)
        return await asyncio.gather(*(self.backend.send(number, operation) for number in sessions))

    async def _decode(self, owner: str, body: bytes) -> NetworkFrame:
        detection = self.config.track.detection
        frame, seconds = await self._decoders.decode(owner, body, detection, self.limits)
        self.metrics.observe("decode", seconds)
        return frame

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        since = time.perf_counter()
        yield
        self.metrics.observe(stage, time.perf_counter() - since)

    def _deadline(self) -> _Deadline:
        return _Deadline(self.limits.request_s)


class _Deadline:
    """`asyncio.timeout` that raises a `Refusal`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:
            text = f"no answer within {self._seconds:g} s; try again"
            raise Refusal(Cause.UNAVAILABLE, text, retry_after_s=1) from None

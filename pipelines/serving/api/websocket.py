"""A stream over one WebSocket: images in, tracks out, in order; detected ahead of their turn.

The server first sends `{"stream", "model", "expected"}`. A binary message is the image of the next
frame. A text message `{"seq", "time_s"}` before it, both optional, holds its number and the time it
was taken; after a refusal `seq` sets the number to continue with. Every image gets one answer, in
order: that of `POST .../frames/{seq}`, or a refusal with its `seq`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from jde_ray.pipelines.serving.api.bodies import frame_answer, to_json
from jde_ray.pipelines.serving.api.guard import subprotocol
from jde_ray.pipelines.serving.calls import Service
from jde_ray.pipelines.serving.quotas import METERED
from jde_ray.pipelines.serving.refusals import Cause, Refusal, too_large
from jde_ray.pipelines.serving.streams.operations import track_frame

logger = logging.getLogger("ray.serve")

NORMAL, POLICY_VIOLATION, TOO_BIG, GOING_AWAY = 1000, 1008, 1009, 1001
_AHEAD = 4  # frames of a socket that are detected at once
_MAX_TEXT = 1024
MAX_TIME_S = 1e11  # Unix times in seconds lie far below


@dataclass(frozen=True)
class _Frame:
    """An image that has arrived; its bytes are released as soon as it is decoded."""

    seq: int
    time_s: float | None
    num_bytes: int
    arrived_s: float


class _Ended(Exception):  # noqa: N818
    """Raised to close the socket from this side."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


async def serve_socket(service: Service, socket: WebSocket, stream: str) -> None:
    """Serve one socket until either side ends it. The stream outlives it."""
    with suppress(WebSocketDisconnect):  # the client may leave at any time
        await _serve(service, socket, stream)


async def _serve(service: Service, socket: WebSocket, stream: str) -> None:
    owner: str = socket.state.owner
    await socket.accept(subprotocol=subprotocol(socket.scope))
    try:
        with service.socket(owner):
            expected = await service.expected(stream, owner)
            await _SocketSession(service, socket, stream, owner, expected).run()
    except Refusal as refusal:  # sent after accepting: browsers hide the text of a refused socket
        service.metrics.count("jde_refusals", refusal.cause.error)
        socket.scope["state"]["error"] = refusal.cause.error
        await socket.send_text(refusal.to_json().decode())
        await socket.close(POLICY_VIOLATION, refusal.cause.error)
    except _Ended as ended:
        if socket.client_state is WebSocketState.CONNECTED:
            await socket.close(ended.code, ended.reason)


class _SocketSession:
    """One socket: a task reads images, and another one answers them."""

    def __init__(
        self, service: Service, socket: WebSocket, stream: str, owner: str, expected: int
    ) -> None:
        self._service, self._socket = service, socket
        self._stream, self._owner = stream, owner
        self._next = expected  # number of the next image without one of its own
        self._said: dict[str, Any] = {}  # by the text message before the image
        self._unanswered: asyncio.Queue[tuple[_Frame, asyncio.Task[Any]]] = asyncio.Queue()
        self._num_unanswered = self._held = 0
        self._ahead = asyncio.Semaphore(_AHEAD)

    async def run(self) -> None:
        """Read and answer until one of both tasks ends, then cancel all work.

        Raises:
            WebSocketDisconnect: If the client has left.
        """
        model = self._service.config.model
        hello = {"stream": self._stream, "model": model, "expected": self._next}
        await self._socket.send_text(to_json(hello).decode())
        work = [asyncio.ensure_future(part) for part in (self._read(), self._answer())]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            while not self._unanswered.empty():
                self._unanswered.get_nowait()[1].cancel()
            await asyncio.gather(*work, return_exceptions=True)
            self._service.memory.give(self._owner, self._held)

    async def _read(self) -> None:
        while True:
            message = await self._message()
            image, text = message.get("bytes"), message.get("text")
            if text is not None:
                self._said = _parse(text)
            elif image is not None:
                self._begin(image)
            del message, image  # freed while waiting for the next one

    async def _message(self) -> MutableMapping[str, Any]:
        limits = self._service.limits
        if not self._is_metered():
            await self._service.memory.room(self._owner)
        while True:
            try:
                async with asyncio.timeout(limits.idle_s):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._num_unanswered:
                    continue
                raise _Ended(GOING_AWAY, f"no frame for {limits.idle_s:g} s") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", NORMAL))
            return message

    def _begin(self, image: bytes) -> None:
        """Count an image, and start its detection."""
        limits = self._service.limits
        self._held += len(image)
        if not self._is_metered():
            self._service.memory.take(self._owner, len(image))
        if len(image) > limits.max_body_bytes:
            raise _Ended(TOO_BIG, too_large(limits.max_body_bytes).detail)
        self._num_unanswered += 1
        if self._num_unanswered > limits.max_unanswered:
            raise _Ended(POLICY_VIOLATION, f"more than {limits.max_unanswered} frames unanswered")
        seq, time_s = self._said.get("seq", self._next), self._said.get("time_s")
        self._next, self._said = seq + 1, {}
        frame = _Frame(seq, time_s, len(image), time.perf_counter())
        self._unanswered.put_nowait((frame, asyncio.ensure_future(self._detect(image))))

    def _is_metered(self) -> bool:
        """Whether our own listener has counted the message; Serve's proxy does not."""
        return bool(self._socket.scope["state"].get(METERED, False))

    async def _detect(self, image: bytes) -> Any:
        """Decoded image and detections of a frame."""
        async with self._ahead:
            self._service.rates.take(self._owner)
            return await self._service.detect(self._owner, image, unbounded=True, call="frame")

    async def _answer(self) -> None:
        metrics = self._service.metrics
        while True:
            frame, task = await self._unanswered.get()
            status, values = 200, {}
            try:
                place = (self._stream, self._owner, frame.seq)
                config = self._service.config.track
                operation = track_frame(place, frame.time_s, await task, config)
                answer = await self._service.associate(operation)
                values = frame_answer(self._service.config.model, self._stream, answer)
            except Refusal as refusal:
                metrics.count("jde_refusals", refusal.cause.error)
                status, values = refusal.cause.status, _refused(frame.seq, refusal)
            except asyncio.CancelledError:
                task.cancel()
                raise
            except Exception:
                logger.exception("frame %d of a socket failed", frame.seq)
                failure = Refusal(Cause.INTERNAL, "the service failed; its log has more")
                status, values = failure.cause.status, _refused(frame.seq, failure)
            self._num_unanswered -= 1
            self._held -= frame.num_bytes
            self._service.memory.give(self._owner, frame.num_bytes)
            del task  # it holds the pixels
            state = self._socket.scope["state"]
            state["num_frames"] = state.get("num_frames", 0) + 1
            seconds = time.perf_counter() - frame.arrived_s
            metrics.count("jde_requests", "frame", str(status))
            metrics.observe("call", seconds)
            metrics.observe_call("frame", str(status), seconds)
            await self._socket.send_text(to_json(values).decode())


def _refused(seq: int, refusal: Refusal) -> dict[str, Any]:
    """Plain values of a refusal of one image."""
    values = {"seq": seq, **refusal.to_dict()}
    if refusal.retry_after_s is not None:
        values["retry_after_s"] = refusal.retry_after_s
    return values


def _parse(text: str) -> dict[str, Any]:
    """The number and time in a text message, for the image that follows."""
    accepted = 'a text message is {"seq": 0.., "time_s": seconds}'
    try:
        said = json.loads(text) if len(text) <= _MAX_TEXT else None
    except (json.JSONDecodeError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.keys() - {"seq", "time_s"}:
        raise _Ended(POLICY_VIOLATION, accepted)
    seq, time_s = said.get("seq"), said.get("time_s")
    if seq is not None and (type(seq) is not int or not 0 <= seq <= 2**53):
        raise _Ended(POLICY_VIOLATION, accepted)
    if time_s is not None and not (type(time_s) in (int, float) and abs(time_s) <= MAX_TIME_S):
        got = json.dumps(time_s)[:30]  # ASCII: a close frame holds 123 bytes of UTF-8
        text = f"time_s: got {got}, expected seconds up to {MAX_TIME_S:g}"
        raise _Ended(POLICY_VIOLATION, text)
    return {name: value for name, value in said.items() if value is not None}

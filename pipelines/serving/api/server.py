"""An HTTP and WebSocket server inside an ingress, which clients reach without Serve's proxy.

All ingresses of a machine listen on one port (SO_REUSEPORT), and the kernel spreads connections
over those that are alive. A proxy would cost more than the session, and under overload most of the
time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from jde_ray.pipelines.serving.api.guard import App
from jde_ray.pipelines.serving.config import KEEP_ALIVE_S, split_address
from jde_ray.pipelines.serving.quotas import METERED, MemoryBudget
from jde_ray.pipelines.serving.refusals import Cause, Refusal

_BACKLOG = 2048  # connections
_MAX_HEAD_BYTES = 64 << 10
_NO_LIMIT = 1 << 62
_LOOK_EVERY_S = 0.5  # at the connection of a client that is not read from
_ESTABLISHED = 1  # first byte of the kernel's struct tcp_info


class Listener:
    """The server of one ingress, from `open` until `close`.

    Args:
        app: The application that answers.
        address: `HOST:PORT`.
        max_body_bytes: Largest message of a WebSocket. The app refuses larger ones, the server
            those of more than twice the size.
        idle_s: Seconds after which a connection without a request, or with only part of its head,
            is closed.
        memory: Counts the bytes of WebSockets, which are not read above their owner's share.
        message_s: Seconds in which a message must arrive while others wait for it.
    """

    def __init__(
        self,
        app: App,
        address: str,
        max_body_bytes: int,
        idle_s: float = KEEP_ALIVE_S,
        *,
        memory: MemoryBudget | None = None,
        message_s: float = 10.0,
    ) -> None:
        self._address = split_address(address)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws=_metered(memory or MemoryBudget(_NO_LIMIT, _NO_LIMIT), message_s),
                timeout_keep_alive=idle_s,  # type: ignore[arg-type]  # a delay of asyncio's
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws_max_size=2 * max_body_bytes,
                ws_per_message_deflate=False,  # images are compressed already
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen.

        Raises:
            RuntimeError: If the address is taken, or not one of this machine.
        """
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        host, port = self._address
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((host, port))
            listening.listen(_BACKLOG)  # callers wait until the server runs, and are not refused
        except OSError as error:
            listening.close()
            reason = error.strerror or "it cannot be bound"
            raise RuntimeError(f"listen: {host}:{port} is not free ({reason})") from error
        self._serving = asyncio.ensure_future(self._server.serve([listening]))

    async def close(self, within_s: float) -> None:
        """Accept no more requests, answer those that have arrived, and close sockets with 1012.

        Args:
            within_s: Seconds after which unanswered requests are dropped.
        """
        if self._serving is None:
            return
        self._server.should_exit = True
        with suppress(TimeoutError):  # it is cancelled, and its connections end with this process
            await asyncio.wait_for(self._serving, within_s)


class _Connection(HttpToolsProtocol):
    """Closes connections whose request's head is slow or long; uvicorn would wait forever.

    It does the same with the rest of a body whose request was refused.
    """

    _is_in_head = True
    _head_bytes = 0
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def _should_upgrade(self) -> bool:
        """Upgrade GETs only: the WebSocket's protocol would leave others without an answer."""
        return self.parser.get_method() == b"GET" and super()._should_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_in_head = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # now it is a WebSocket's
            self._stop_waiting()
        elif self._is_in_head:
            self._wait()
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.close()
        elif self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP like every other call: with the JSON of a refusal."""
        refusal = Refusal(Cause.BAD_REQUEST, "the request cannot be read, expected HTTP/1.1")
        content = refusal.to_json()
        headers = refusal.headers() | {"content-length": str(len(content)), "connection": "close"}
        lines = ["HTTP/1.1 400 Bad Request", *(f"{k}: {v}" for k, v in headers.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


class _Socket(WebSocketsSansIOProtocol):
    """Counts the bytes it holds, and stops reading above its owner's share: TCP slows the client.

    The receiver of an image takes over the bytes counted for it. A connection that is not read from
    never reports its end, so the kernel is asked: a client that has left has its images dropped
    before they are decoded, and its memory is freed.
    """

    _timer: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None
    _is_waiting = False

    def __init__(self, memory: MemoryBudget, message_s: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memory, self._message_s = memory, message_s
        # said before the first message: an app that waited for room would not take its own messages
        self.app_state = {**self.app_state, METERED: True}
        self._partial = 0  # bytes of the message that is arriving
        self._whole: deque[int] = deque()  # bytes of each message that the app has not taken

    @property
    def _owner(self) -> str | None:
        """Owner of the caller's token, once the guard has set it."""
        scope: Any = getattr(self, "scope", None)
        return None if scope is None else scope["state"].get("owner")

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is not None:
            self._partial += len(data)
            self._memory.take(owner, len(data), is_partial=True)
        super().data_received(data)
        self._wait_if_full()
        self._watch_client()

    def send_receive_event_to_app(self) -> None:
        owner, number = self._owner, sum(map(len, self.frames))
        super().send_receive_event_to_app()
        if owner is None:
            return
        if not self.close_sent:
            self._whole.append(number)
            self._memory.take(owner, number)
        partial_bytes, self._partial = self._partial, 0
        self._memory.give(owner, partial_bytes, is_partial=True)
        self._stop_waiting(owner)  # last, since another one may now finish its message

    async def receive(self) -> Any:
        message = await super().receive()
        owner = self._owner
        if message["type"] == "websocket.receive" and owner is not None:
            image = message.get("bytes")
            if not self._whole:  # the connection was lost, and its bytes were released
                self._memory.take(owner, len(image or b""))
            elif (number := self._whole.popleft()) and image is None:
                self._memory.give(owner, number)
        self._wait_if_full()
        self._watch_client()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        owner = self._owner
        if owner is not None:
            self._stop_waiting(owner)
            whole, partial_bytes, self._partial = sum(self._whole), self._partial, 0
            self._whole.clear()
            self._memory.give(owner, whole)
            self._memory.give(owner, partial_bytes, is_partial=True)
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """Ignore a missing pong while reading is paused, since unread bytes may precede it."""
        if not self._is_waiting:
            super().keepalive_timeout()
            return
        self.pong_timer = self.pending_ping_payload = None
        self.schedule_ping()

    def _watch_client(self) -> None:
        """Look at the connection from time to time while it is not read from."""
        is_paused = not self.transport.is_reading() and not self.transport.is_closing()
        if is_paused and self._look is None:
            self._look = self.loop.call_later(_LOOK_EVERY_S, self._abort_if_left)

    def _abort_if_left(self) -> None:
        """Drop a client that has closed its side: none closes only that (RFC 6455, 7.1.1)."""
        self._look = None
        if self.transport.is_reading() or _is_established(self.transport.get_extra_info("socket")):
            self._watch_client()
        else:
            self.transport.abort()

    def _wait_if_full(self) -> None:
        owner = self._owner
        if owner is None or self.transport.is_closing() or not self._memory.is_full(owner):
            return
        self._is_waiting = True
        if self._memory.wait(owner, self, self._resume, is_partial=self._partial > 0):
            self._hurry()
        else:
            self._calm_down()
            self.transport.pause_reading()

    def _resume(self) -> None:
        """Continue: there is room, or this is the reader that may finish its message."""
        owner = self._owner
        if owner is not None and self._memory.may_read_on(owner, self):
            self._hurry()
        else:
            self._is_waiting = False
            self._calm_down()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _stop_waiting(self, owner: str) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._calm_down()
            self._memory.leave(owner, self)

    def _hurry(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._message_s, self.transport.abort)

    def _calm_down(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_established(connection: socket.socket) -> bool:
    """Whether neither side has closed the connection; true where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return True
    with suppress(OSError):
        state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == _ESTABLISHED
    return True


def _metered(memory: MemoryBudget, message_s: float) -> Any:
    """A factory of socket protocols; uvicorn's annotation asks for a class."""
    return partial(_Socket, memory, message_s)


class _Server(uvicorn.Server):
    """A server that leaves signals to Ray, in whose process it runs."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

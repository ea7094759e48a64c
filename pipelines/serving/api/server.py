"""An HTTP and WebSocket server inside an ingress, which clients reach without Serve's proxy.

All ingresses of a machine listen on one port (SO_REUSEPORT), and the kernel spreads connections
over those that live. A proxy between would cost more than the session does, and under overload
most of the time there is.
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

_BACKLOG = 2048  # connections
_MAX_HEAD_BYTES = 64 << 10
_NO_LIMIT = 1 << 62


class Listener:
    """The server of one ingress, from `open` until `close`.

    Args:
        app: What answers.
        address: `HOST:PORT`.
        max_body_bytes: Of a WebSocket's message; the app says what is too much, up to twice of it.
        idle_s: After which a connection is closed that has no request, or only part of one's head.
        memory: Where the bytes of WebSockets are counted; above their owner's part they are read no
            more.
        message_s: In which a message must arrive while others wait for it.
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
            listening.listen(_BACKLOG)  # callers wait for the server, and are not refused
        except OSError as error:
            listening.close()
            reason = error.strerror or "it cannot be bound"
            raise RuntimeError(f"listen: {host}:{port} is not free ({reason})") from error
        self._serving = asyncio.ensure_future(self._server.serve([listening]))

    async def close(self, within_s: float) -> None:
        """Accept no more, answer what has arrived, tell open sockets that they are to go elsewhere.

        Args:
            within_s: After which what is not answered is dropped.
        """
        if self._serving is None:
            return
        self._server.should_exit = True
        with suppress(TimeoutError):  # cancelled then: its connections end with this process
            await asyncio.wait_for(self._serving, within_s)


class _Connection(HttpToolsProtocol):
    """Ends a connection whose request's head is slow or long; uvicorn alone would wait for ever.

    The same with the rest of a body whose request has been refused.
    """

    _is_in_head = True
    _head_bytes = 0
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def _should_upgrade(self) -> bool:
        """Only of a GET: the WebSocket's protocol would keep others open without an answer."""
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
    """Counts what it holds, and reads no more above its owner's part: TCP slows the client down.

    What is counted for an image goes over to the app with it.
    """

    _timer: asyncio.TimerHandle | None = None
    _is_waiting = False

    def __init__(self, memory: MemoryBudget, message_s: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memory, self._message_s = memory, message_s
        self._partial = 0  # bytes of the message that is arriving
        self._whole: deque[int] = deque()  # those of messages that the app has not taken

    @property
    def _owner(self) -> str | None:
        """Who it is, once the guard has said so."""
        scope: Any = getattr(self, "scope", None)
        return None if scope is None else scope["state"].get("owner")

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is not None:
            self.scope["state"][METERED] = True
            self._partial += len(data)
            self._memory.take(owner, len(data))
        super().data_received(data)
        self._wait_if_full()

    def send_receive_event_to_app(self) -> None:
        owner, number = self._owner, sum(map(len, self.frames))
        super().send_receive_event_to_app()
        if owner is None:
            return
        self._stop_waiting(owner)
        if not self.close_sent:
            self._whole.append(number)
            self._memory.take(owner, number)
        partial_bytes, self._partial = self._partial, 0
        self._memory.give(owner, partial_bytes)

    async def receive(self) -> Any:
        message = await super().receive()
        owner = self._owner
        if message["type"] == "websocket.receive" and owner is not None:
            image = message.get("bytes")
            if not self._whole:  # the connection is lost, and was counted out with it
                self._memory.take(owner, len(image or b""))
            elif (number := self._whole.popleft()) and image is None:
                self._memory.give(owner, number)
        self._wait_if_full()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        owner = self._owner
        if owner is not None:
            self._stop_waiting(owner)
            number, self._partial = self._partial + sum(self._whole), 0
            self._whole.clear()
            self._memory.give(owner, number)
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """Its answer to a ping may lie behind what is not read."""
        if not self._is_waiting:
            super().keepalive_timeout()
            return
        self.pong_timer = self.pending_ping_payload = None
        self.schedule_ping()

    def _wait_if_full(self) -> None:
        owner = self._owner
        if owner is None or self.transport.is_closing() or not self._memory.is_full(owner):
            return
        self._is_waiting = True
        if self._memory.wait(owner, self, self._go_on, is_amid=self._partial > 0):
            self._hurry()
        else:
            self.transport.pause_reading()

    def _go_on(self) -> None:
        """There is room, or this message is the one that may come to its end all the same."""
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


def _metered(memory: MemoryBudget, message_s: float) -> Any:
    """What uvicorn calls to make the protocol of a socket; it says that it wants a class."""
    return partial(_Socket, memory, message_s)


class _Server(uvicorn.Server):
    """Leaves signals to Ray, whose process it is in."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

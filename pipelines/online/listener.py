"""An HTTP and WebSocket server inside an ingress, which clients reach without Serve's proxy.

All ingresses of a machine listen on one port (SO_REUSEPORT), and the kernel spreads connections
over those that live. A proxy between would cost more than the session does, and under overload
most of the time there is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipelines.online.config import KEEP_ALIVE_S, split_address
from pipelines.online.guard import App

_BACKLOG = 2048  # connections
_MAX_HEAD_BYTES = 64 << 10


class Listener:
    """The server of one ingress, from `open` until `close`.

    Args:
        app: What answers.
        address: `HOST:PORT`.
        max_body_bytes: Of a WebSocket's message; the app says what is too much, up to twice of it.
        idle_s: After which a connection is closed that has no request, or only part of one's head.
    """

    def __init__(
        self, app: App, address: str, max_body_bytes: int, idle_s: float = KEEP_ALIVE_S
    ) -> None:
        self._address = split_address(address)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
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


class _Server(uvicorn.Server):
    """Leaves signals to Ray, whose process it is in."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

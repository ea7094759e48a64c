"""A TCP proxy in front of a store that fails on purpose, one decision a request.

Every connection carries one request, so that a fault hits exactly that. It can also be told to
fail always: a full outage.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from typing import Literal, get_args

Fault = Literal["429", "500", "503", "reset", "stall", "cut"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
_CODES = {"429": "TooManyRequests", "500": "InternalError", "503": "SlowDown"}


class FaultyProxy:
    """Relays to `target`; a share of the requests meets a fault.

    Attributes:
        counts: Requests by what happened to them, `ok` among them.
        outage: A fault that every request meets.
    """

    def __init__(self, target: str, share: float, seed: int = 0, stall_s: float = 60.0) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._share, self._stall_s = share, stall_s
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.outage: Fault | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._is_closed.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _choose(self) -> Fault | None:
        with self._lock:
            fault = self.outage
            if fault is None and self._random.random() < self._share:
                fault = self._random.choice(FAULTS)
            self.counts[fault or "ok"] += 1
            return fault

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                head = _read_head(client)
                if head:
                    self._answer(client, head, self._choose())
            except OSError:
                return

    def _answer(self, client: socket.socket, head: bytes, fault: Fault | None) -> None:
        if fault in _CODES:
            code = _CODES[fault]
            body = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
            line = f"HTTP/1.1 {fault} {code}\r\nContent-Length: {len(body)}\r\n"
            client.sendall(line.encode() + b"Connection: close\r\n\r\n" + body)
            _drain(client)
        elif fault == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault == "stall":
            self._is_closed.wait(self._stall_s)
        else:
            with socket.create_connection(self._target) as server:
                server.sendall(_with_close(head))
                upward = threading.Thread(target=_relay, args=(client, server), daemon=True)
                upward.start()
                _relay(server, client, cut=fault == "cut")


def _read_head(client: socket.socket) -> bytes:
    client.settimeout(30)
    head = b""
    while b"\r\n\r\n" not in head:
        content = client.recv(65536)
        if not content:
            return b""
        head += content
    return head


def _with_close(head: bytes) -> bytes:
    """The request with `Connection: close`, so that the server's end is the answer's end."""
    lines, rest = head.split(b"\r\n\r\n", 1)
    kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n" + rest


def _relay(source: socket.socket, sink: socket.socket, *, cut: bool = False) -> None:
    """Pass bytes on; with `cut` the answer ends in the middle of its body."""
    try:
        while content := source.recv(65536):
            if cut and b"\r\n\r\n" in content and not content.startswith(b"HTTP/1.1 100"):
                head, body = content.split(b"\r\n\r\n", 1)
                sink.sendall(head + b"\r\n\r\n" + body[: len(body) // 2])
                sink.shutdown(socket.SHUT_RDWR)
                return
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _drain(client: socket.socket) -> None:
    """Take what is still sent, so that closing is no reset before the answer was read."""
    client.settimeout(0.2)
    end = time.monotonic() + 2
    try:
        while time.monotonic() < end and client.recv(65536):
            pass
    except OSError:
        return

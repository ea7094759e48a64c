"""The server inside an ingress: several on one port, and how one of them ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serving_service import HANG_S, free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from jde_ray.pipelines.serving.api.server import Listener
from jde_ray.pipelines.serving.config import ServeConfig, split_address
from jde_ray.pipelines.serving.quotas import METERED

LAST_CHUNK = b"0\r\n\r\n"


class App:
    """Answers its name, to `/slow` only when it is let; echoes what a socket sends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.has_asked, self.let_go = threading.Event(), threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "bytes": message["bytes"]})
            return
        if scope["path"] == "/slow":
            self.has_asked.set()
            while not self.let_go.is_set():
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self._name.encode()})


@contextmanager
def listening(
    app: App, address: str, within_s: float = 5.0, idle_s: float = 15.0
) -> Iterator[threading.Event]:
    """A listener in a thread; setting the event begins its end."""
    stop, opened = threading.Event(), threading.Event()
    failures: list[Exception] = []

    async def serve() -> None:
        listener = Listener(app, address, 1000, idle_s)
        try:
            await listener.open()
        except RuntimeError as error:
            failures.append(error)
            return
        finally:
            opened.set()
        await asyncio.to_thread(stop.wait)
        await listener.close(within_s)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert opened.wait(HANG_S)
        if failures:
            raise failures[0]
        yield stop
    finally:
        stop.set()
        app.let_go.set()
        thread.join(HANG_S)
        assert not thread.is_alive()


def get(port: int, path: str = "/") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def send_without_end(connection: socket.socket, line: bytes) -> None:
    while True:
        connection.sendall(line)


def test_several_share_a_port_and_the_others_go_on_when_one_ends():
    port = free_port()
    with listening(App("b"), f"127.0.0.1:{port}"):
        with listening(App("a"), f"127.0.0.1:{port}"):
            assert {get(port) for _ in range(60)} == {"a", "b"}
        assert {get(port) for _ in range(20)} == {"b"}


def test_what_has_arrived_is_answered_at_the_end():
    app, port, answers = App("a"), free_port(), []
    with listening(app, f"127.0.0.1:{port}") as stop:
        caller = threading.Thread(target=lambda: answers.append(get(port, "/slow")))
        caller.start()
        assert app.has_asked.wait(HANG_S)
        stop.set()
        while True:  # nobody new is let in meanwhile
            try:
                socket.create_connection(("127.0.0.1", port), timeout=HANG_S).close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
        assert not answers
        app.let_go.set()
        caller.join(HANG_S)
    assert answers == ["a"]


def test_an_end_does_not_wait_longer_than_it_may():
    app, port = App("a"), free_port()
    with listening(app, f"127.0.0.1:{port}", within_s=0.2) as stop:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
        connection.request("GET", "/slow")
        assert app.has_asked.wait(HANG_S)
        stop.set()
        assert connection.getresponse().status == 500  # as the loop ends, with all that is in it


def test_open_sockets_are_told_to_go_elsewhere():
    port = free_port()
    with (
        listening(App("a"), f"127.0.0.1:{port}") as stop,
        connect(f"ws://127.0.0.1:{port}/", compression=None) as talk,
    ):
        talk.send(b"x" * 1500)  # above the limit: for the app to refuse, in its own words
        assert talk.recv(timeout=HANG_S) == b"x" * 1500
        stop.set()
        with pytest.raises(ConnectionClosed) as closed:
            talk.recv(timeout=HANG_S)
    assert closed.value.rcvd.code == 1012


def test_a_head_that_is_slow_or_long_ends_its_connection():
    port = free_port()
    with listening(App("a"), f"127.0.0.1:{port}", idle_s=0.5):
        request = b"GET / HTTP/1.1\r\nHost: x\r\n"
        for beginning in (b"", request, request + b"\r\n" + request):
            with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as slow:
                slow.sendall(beginning)
                answer = b""
                while part := slow.recv(4096):
                    answer += part
                assert answer.count(b"200 OK") == beginning.count(b"\r\n\r\n")
    with (
        listening(App("a"), f"127.0.0.1:{port}"),
        socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as endless,
    ):
        endless.sendall(request)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_without_end(endless, b"X: " + b"y" * 1000 + b"\r\n")
        assert get(port) == "a"


def test_a_refused_body_is_read_to_its_end_but_not_for_ever():
    port, length = free_port(), 1 << 20
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    with (
        listening(App("a"), f"127.0.0.1:{port}", idle_s=0.5),
        socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection,
    ):
        for _ in range(2):  # the app answers at once and reads nothing
            connection.sendall(head + bytes(length))
            assert b"200 OK" in receive_until(connection, LAST_CHUNK)
        connection.sendall(head + bytes(length - 1))
        assert b"200 OK" in receive_until(connection, LAST_CHUNK)
        assert connection.recv(4096) == b""


def receive_until(connection: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        answer += connection.recv(4096)
    return answer


def test_a_slow_answer_and_a_quiet_socket_are_no_slow_heads():
    app, port = App("a"), free_port()
    with listening(app, f"127.0.0.1:{port}", idle_s=0.3):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
        connection.request("GET", "/slow")
        with connect(f"ws://127.0.0.1:{port}/", compression=None) as talk:
            time.sleep(0.8)
            talk.send(b"x")
            assert talk.recv(timeout=HANG_S) == b"x"
        app.let_go.set()
        assert connection.getresponse().read() == b"a"


def test_an_upgrade_that_is_no_get_is_an_ordinary_call():
    port = free_port()
    with listening(App("a"), f"127.0.0.1:{port}", idle_s=0.5):
        with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as odd:
            odd.sendall(
                b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Content-Length: 100\r\n\r\nabc"
            )
            assert b"200 OK" in receive_until(odd, LAST_CHUNK)
            assert odd.recv(4096) == b""
        assert get(port) == "a"


def test_an_address_of_another_program_is_refused_by_its_name():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with (
            pytest.raises(RuntimeError, match=f"listen: {address} is not free"),
            listening(App("a"), address),
        ):
            pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:80", ("::1", 80)),
        ("example.org:65535", ("example.org", 65535)),
    ],
)
def test_addresses(text, address):
    assert split_address(text) == address
    assert ServeConfig(listen=text).listen == text


@pytest.mark.parametrize("text", ["", "8000", "host", "host:", ":80", "host:x", "h:70000", "u@h:1"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="listen: got"):
        ServeConfig(listen=text)


def test_sockets_are_metered_from_the_start():
    """An app that learned it from the first message would wait for room before it took that one."""
    states = []

    class Noting(App):
        async def __call__(self, scope, receive, send) -> None:
            if scope["type"] == "websocket":
                states.append(dict(scope["state"]))
            await super().__call__(scope, receive, send)

    port = free_port()
    with (
        listening(Noting("one"), f"127.0.0.1:{port}"),
        connect(f"ws://127.0.0.1:{port}/", open_timeout=HANG_S),
    ):
        pass
    assert states == [{METERED: True}]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_as_a_refusal(request_bytes):
    port = free_port()
    with (
        listening(App("one"), f"127.0.0.1:{port}"),
        socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as raw,
    ):
        raw.sendall(request_bytes)
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.read())["error"] == "bad_request"
        assert raw.recv(1) == b""

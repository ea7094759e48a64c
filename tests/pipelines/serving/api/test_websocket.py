"""A stream over a WebSocket: the answers of REST, in order, and who may open one."""

from __future__ import annotations

import base64
import json
import socket as socket_module
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import cv2
import numpy as np
import pytest
from serving_service import CONFIG, HANG_S, OTHER_TOKEN, TOKEN, frame, png, running, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from jde_ray.pipelines.serving.api import server

PNG = png(frame(0))


@pytest.fixture(scope="module")
def service():
    with running() as it:
        yield it


def open_socket(service, stream: str, **options) -> ClientConnection:
    url = f"ws://127.0.0.1:{service.port}/v1/streams/{stream}/ws"
    return connect(url, open_timeout=HANG_S, **options)


def receive(socket: ClientConnection) -> dict:
    return json.loads(socket.recv(timeout=HANG_S))


def test_answers_are_those_of_rest(service):
    first, second = service.open(), service.open()
    wanted = []
    for seq in range(12):
        path = f"/v1/streams/{first}/frames/{seq}"
        wanted.append(service.call("POST", path, png(frame(seq)))[1])
    with open_socket(service, second) as socket:
        hello = {"stream": second, "model": CONFIG.model, "expected": 0}
        assert receive(socket) == hello
        for seq in range(12):  # all before the first answer is read
            socket.send(png(frame(seq)))
        answers = [receive(socket) for _ in range(12)]
    assert [answer.pop("stream") for answer in answers] == [second] * 12
    assert answers == [{k: v for k, v in answer.items() if k != "stream"} for answer in wanted]
    assert any(answer["tracks"] for answer in answers)


def test_the_stream_outlives_its_socket_and_a_number_may_be_sent_again(service):
    stream = service.open()
    with open_socket(service, stream) as socket:
        receive(socket)
        socket.send(png(frame(0)))
        socket.send(png(frame(1)))
        answers = [receive(socket), receive(socket)]
    with open_socket(service, stream) as socket:
        assert receive(socket)["expected"] == 2
        socket.send('{"seq": 1}')
        socket.send(png(frame(40)))
        assert receive(socket) == answers[1]
        socket.send(png(frame(2)))  # without a number: the one behind the last
        assert receive(socket)["seq"] == 2
        socket.send('{"seq": 9, "time_s": 0.5}')
        socket.send(png(frame(3)))
        refused = receive(socket)
        assert (refused["error"], refused["seq"], refused["expected"]) == ("sequence_gap", 9, 3)


def test_a_refused_image_does_not_end_the_socket(service):
    with open_socket(service, service.open()) as socket:
        receive(socket)
        socket.send(b"no image")
        socket.send(PNG)
        refused, gap = receive(socket), receive(socket)
        assert (refused["error"], refused["seq"]) == ("unsupported_type", 0)
        assert (gap["error"], gap["expected"]) == ("sequence_gap", 0)
        socket.send('{"seq": 0}')
        socket.send(PNG)
        assert receive(socket)["seq"] == 0


def test_a_full_queue_makes_sockets_wait_instead_of_refusing(service):
    """Three sockets ahead by ten frames each, at a detector with room for two."""
    with ExitStack() as stack:
        streams = [service.open() for _ in range(3)]
        sockets = [stack.enter_context(open_socket(service, stream)) for stream in streams]
        for socket in sockets:
            receive(socket)
            for seq in range(10):
                socket.send(png(frame(seq)))
        for socket in sockets:
            assert [receive(socket)["seq"] for _ in range(10)] == list(range(10))


def test_frames_of_sockets_are_counted_as_calls_and_refusals():
    with running(max_sockets=1) as service:
        stream = service.open()
        with open_socket(service, stream) as socket:
            receive(socket)
            for image in (PNG, b"no image", PNG):
                socket.send(image)
            assert [receive(socket).get("error") for _ in range(3)] == [
                *(None, "unsupported_type", "sequence_gap"),
            ]
            assert refusal(service, stream)["error"] == "overloaded"  # a second socket
        text = service.call("GET", "/metrics")[1].decode()
    for status, number in ((200, 1), (415, 1), (409, 1)):
        line = f'jde_requests_total{{call="frame",status="{status}"}} {number}.0'
        assert line in text.splitlines()
    assert 'jde_stage_seconds_count{stage="call"} 3.0' in text.splitlines()


def closed(socket: ClientConnection) -> tuple[int, str]:
    try:
        while True:
            socket.recv(timeout=HANG_S)
    except ConnectionClosed as ended:
        return ended.rcvd.code, ended.rcvd.reason


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', '{"seq": -1}', '{"seq": true}', '{"seq": 1.5}', '{"time_s": "now"}',
     '{"time_s": NaN}', '{"time_s": 1e999}', '{"other": 1}', " " * 2000, "[" * 1000],
)  # fmt: skip
def test_text_that_says_nothing_known_ends_the_socket(service, text):
    with open_socket(service, service.open()) as socket:
        receive(socket)
        socket.send(text)
        assert closed(socket)[0] == 1008


def test_floods_and_big_messages_end_the_socket():
    with running(max_unanswered=5, max_body_bytes=20_000) as service:
        service.backend.may_detect.clear()
        with open_socket(service, service.open()) as socket:
            receive(socket)
            with suppress(ConnectionClosed):  # before the last one, on a busy machine
                for _ in range(7):
                    socket.send(PNG)
            assert closed(socket)[0] == 1008
        service.backend.may_detect.set()
        with open_socket(service, service.open()) as socket:
            receive(socket)
            socket.send(bytes(20_001))
            assert closed(socket)[0] == 1009
        wait_until(lambda: service.service.queue.running == 0)


def test_silence_ends_the_socket():
    with running(idle_s=0.3) as service, open_socket(service, service.open()) as socket:
        receive(socket)
        assert closed(socket)[0] == 1001


def refusal(service, stream: str, **options) -> dict:
    with open_socket(service, stream, **options) as socket:
        answer = receive(socket)
        assert closed(socket)[0] == 1008
        return answer


def test_unknown_ended_and_lost_streams_are_told_before_the_socket_is_closed(service):
    assert refusal(service, "none")["error"] == "no_such_stream"
    ended = service.open()
    service.call("DELETE", f"/v1/streams/{ended}")
    assert refusal(service, ended)["error"] == "stream_ended"
    assert refusal(service, "0-0123abcd-0123456789ab")["error"] == "session_lost"


def test_the_token_comes_in_a_header_or_from_browsers_in_a_subprotocol():
    with running(tokens=(TOKEN,)) as service:
        stream = service.open(TOKEN)
        assert refusal(service, stream)["error"] == "no_token"
        header = {"authorization": f"Bearer {TOKEN}"}
        with open_socket(service, stream, additional_headers=header) as socket:
            assert receive(socket)["stream"] == stream
        text = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
        with open_socket(service, stream, subprotocols=["jde", f"bearer.{text}"]) as socket:
            assert receive(socket)["stream"] == stream
            assert socket.subprotocol == "jde"
        wrong = base64.urlsafe_b64encode(b"x" * 20).decode().rstrip("=")
        for offered in (wrong, "%%%", "é".encode().hex()):
            answer = refusal(service, stream, subprotocols=["jde", f"bearer.{offered}"])
            assert answer["error"] == "wrong_token"


def test_pages_of_other_sites_may_not_open_a_socket(service):
    stream = service.open()
    answer = refusal(service, stream, origin="http://evil.example")
    assert answer["error"] == "foreign_host"
    with open_socket(service, stream, origin=service.url) as socket:
        assert receive(socket)["expected"] == 0


def test_a_broken_origin_is_a_foreign_one(service):
    stream = service.open()
    for origin in ("http://[", "http://[::g]", "null", ""):
        assert refusal(service, stream, origin=origin)["error"] == "foreign_host"


def test_unix_times_are_times_and_what_is_none_is_named(service):
    with open_socket(service, service.open()) as socket:
        receive(socket)
        for seq in range(2):
            socket.send(json.dumps({"time_s": 1.8e9 + seq / 25}))
            socket.send(png(frame(seq)))
            assert receive(socket)["seq"] == seq
        socket.send('{"time_s": 2e11}')
        code, reason = closed(socket)
        assert code == 1008
        assert "time_s: got 200000000000.0, expected seconds up to" in reason


@pytest.mark.parametrize(
    ("text", "got"), [('"' + "\U0001f600" * 40 + '"', r'"\ud83d'), (r'"\ud800"', r'"\ud800"')]
)
def test_a_time_of_any_letters_is_named_in_the_reason(service, text, got):
    """A reason of more than 123 bytes, or half a letter, left the client without any."""
    with open_socket(service, service.open()) as socket:
        receive(socket)
        socket.send(f'{{"time_s": {text}}}')
        code, reason = closed(socket)
    assert code == 1008
    assert f"time_s: got {got}" in reason
    assert reason.endswith("expected seconds up to 1e+11")


def test_a_token_has_its_part_of_the_sockets_only():
    with running(tokens=(TOKEN, OTHER_TOKEN), max_sockets=4) as service, ExitStack() as stack:

        def header(token: str) -> dict:
            return {"additional_headers": {"authorization": f"Bearer {token}"}}

        for _ in range(2):
            socket = stack.enter_context(open_socket(service, service.open(TOKEN), **header(TOKEN)))
            assert receive(socket)["expected"] == 0
        refused = refusal(service, service.open(TOKEN), **header(TOKEN))
        assert refused["error"] == "overloaded"
        assert "expected 2 at once of a token" in refused["detail"]
        other = service.open(OTHER_TOKEN)
        socket = stack.enter_context(open_socket(service, other, **header(OTHER_TOKEN)))
        assert receive(socket)["stream"] == other


def test_sockets_are_read_no_more_above_the_bytes_of_their_token():
    """Eight sockets with ten images each: all are answered, and few are held at once."""
    image = cv2.imencode(".png", np.zeros((300, 300, 3), np.uint8), (16, 0))[1].tobytes()
    limit = 4 * len(image)
    with running(max_image_bytes=limit) as service:
        service.backend.pause_s, memory, held = 0.005, service.service.memory, []

        def play() -> None:
            with open_socket(service, service.open()) as socket:
                receive(socket)
                sender = threading.Thread(target=lambda: [socket.send(image) for _ in range(10)])
                sender.start()
                for seq in range(10):
                    assert receive(socket)["seq"] == seq
                    held.append(memory.held)
                sender.join()

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(play) for _ in range(8)]:
                done.result(60)
        # one image more is read to its end, and of each socket what one reading brings (256 KiB)
        assert limit / 2 < max(held) <= limit + len(image) + 8 * 256 * 1024
        assert memory.held == 0


def test_a_message_that_never_ends_makes_room_after_its_time():
    image = cv2.imencode(".png", np.zeros((300, 300, 3), np.uint8), (16, 0))[1].tobytes()
    with running(max_image_bytes=len(image), body_s=0.5) as service, ExitStack() as stack:
        has_taken, take = threading.Event(), service.service.memory.take

        def noted(*owner_and_number, **options) -> None:
            take(*owner_and_number, **options)
            has_taken.set()

        service.service.memory.take = noted
        for stream in [service.open() for _ in range(3)]:
            raw = stack.enter_context(socket_module.create_connection(("127.0.0.1", service.port)))
            raw.sendall(
                f"GET /v1/streams/{stream}/ws HTTP/1.1\r\nHost: localhost\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            assert b"101" in raw.recv(4096)
            raw.sendall(b"\x82\xff" + (10 * len(image)).to_bytes(8, "big") + bytes(4) + image)
        assert has_taken.wait(HANG_S)
        with open_socket(service, service.open()) as socket:
            receive(socket)
            socket.send(image)
            assert receive(socket)["seq"] == 0


def test_what_a_client_that_has_left_had_sent_is_dropped_before_it_is_decoded(monkeypatch):
    # a missing pong ends it as well, but only after 40 s
    monkeypatch.setattr(server._Socket, "schedule_ping", lambda self: None)
    with running(max_image_bytes=len(PNG)) as service:
        memory, backend = service.service.memory, service.backend
        backend.may_detect.clear()
        with suppress(ConnectionClosed), open_socket(service, service.open()) as socket:
            receive(socket)
            for _ in range(8):
                socket.send(PNG)
            wait_until(lambda: memory.held >= len(PNG))  # it is not read from now
            socket.socket.shutdown(socket_module.SHUT_WR)
            wait_until(lambda: memory.held == 0)
        assert backend.num_detected == 0
        backend.may_detect.set()

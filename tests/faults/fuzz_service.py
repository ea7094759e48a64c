"""Random requests and sockets against a service in this process: no answer is `internal`.

    python tests/faults/fuzz_service.py --seconds 300 --seed 7

A seeded generator cuts, doubles and flips valid heads, bodies and messages, and sends them in any
order over several connections at once. Afterwards the service must answer as before and hold
nothing. The seed is printed; the same seed repeats the cases.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import socket
import sys
import time
from pathlib import Path

from places import ROOT
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

sys.path[:0] = [str(Path(__file__).parents[1]), str(ROOT)]

from serving_service import OTHER_TOKEN, TOKEN, Running, frame, png, running

PNG = png(frame(0))
PATHS = [
    "/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/detect", "/v1/streams",
    "/v1/streams/%s", "/v1/streams/%s/frames/0", "/v1/streams/%s/frames/1", "/v1/streams/%s/ws",
    "/v1/streams/%s/frames/%%00", "//", "/v1/../v1/detect", "/%%ff", "/v1/detect?embeddings=%s",
    "/v1/streams/%s/frames/0?time_s=nan", "*", "http://[", "/" + "a" * 3000,
]  # fmt: skip
METHODS = ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "get", "G\x00T", "PRI"]
HEADERS = [
    "Host: localhost", "Host: evil.example", "Host: [", "Host:", f"Authorization: Bearer {TOKEN}",
    f"Authorization: Bearer {OTHER_TOKEN}", "Authorization: Bearer", "Authorization: Basic x",
    "Origin: http://[", "Origin: null", "Origin: http://localhost", "Content-Length: 5",
    "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: x",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Connection: Upgrade",
    "Expect: 100-continue",
    "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 99",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: jde, bearer.%%%",
    "Content-Type: image/png", "Content-Type: text/html", "Content-Encoding: gzip",
    "X-Request-Id: a b", "X-Request-Id: " + "x" * 200, "A: \xff\xfe", "No colon", " folded",
]  # fmt: skip
TEXTS = [
    "{}", '{"seq": 0}', '{"seq": 3, "time_s": 1.8e9}', '{"seq": -1}', '{"time_s": 1e400}', "[", "",
    '{"seq": null, "time_s": null}', '{"seq": 9007199254740993}', '"x"', "\u2028" * 400, "[" * 900,
]  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Some of the bytes cut, doubled or flipped."""
    content = bytearray(data)
    for _ in range(rng.randrange(4)):
        if not content:
            break
        start = rng.randrange(len(content))
        end = min(len(content), start + rng.randrange(1, 40))
        match rng.randrange(4):
            case 0:
                del content[start:end]
            case 1:
                content[start:start] = content[start:end]
            case 2:
                content[start] ^= 1 << rng.randrange(8)
            case _:
                content[start:end] = rng.randbytes(end - start)
    return bytes(content)


def request(rng: random.Random, stream: str) -> bytes:
    """A request, good or not."""
    path = rng.choice(PATHS).replace("%s", stream).replace("%%", "%")
    headers = [rng.choice(HEADERS) for _ in range(rng.randrange(9))]
    if rng.random() < 0.7:
        headers = ["Host: localhost", f"Authorization: Bearer {TOKEN}", *headers]
    body = rng.choice([b"", PNG, b'{"frames_per_second": 25}', b"5\r\nabcde\r\n0\r\n\r\n"])
    if rng.random() < 0.6:
        headers.append(f"Content-Length: {len(body)}")
    head = f"{rng.choice(METHODS)} {path} HTTP/{rng.choice(['1.1', '1.1', '1.0', '2', '9.9'])}\r\n"
    raw = head.encode() + "".join(f"{line}\r\n" for line in headers).encode("latin-1") + b"\r\n"
    return (mutated(rng, raw) if rng.random() < 0.5 else raw) + mutated(rng, body)


def send_raw(rng: random.Random, service: Running, stream: str) -> bytes:
    """One connection with a few requests, in pieces; gives what came back."""
    came = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", service.port)) as raw:
        raw.settimeout(0.15)
        for _ in range(rng.randrange(1, 4)):
            data = request(rng, stream)
            cut = rng.randrange(len(data) + 1)
            for part in (data[:cut], data[cut:]):
                raw.sendall(part)
            with contextlib.suppress(TimeoutError):
                while part := raw.recv(65536):
                    came += part
    return came


def send_messages(rng: random.Random, service: Running, stream: str) -> bytes:
    """One socket with a few messages in any order; gives what came back."""
    came = b""
    url = f"ws://127.0.0.1:{service.port}/v1/streams/{stream}/ws"
    header = {"authorization": f"Bearer {rng.choice([TOKEN, TOKEN, OTHER_TOKEN])}"}
    with (
        contextlib.suppress(OSError, WebSocketException, EOFError),
        connect(url, additional_headers=header, max_size=None, close_timeout=0.2) as one,
    ):
        for _ in range(rng.randrange(1, 12)):
            match rng.randrange(6):
                case 0:
                    one.send(rng.choice(TEXTS))
                case 1:
                    one.send(mutated(rng, PNG))
                case 2:
                    one.send([mutated(rng, PNG[:40]), PNG[40:], b""])  # in fragments
                case 3:
                    one.ping(rng.randbytes(rng.randrange(100)))
                case 4:
                    with contextlib.suppress(TimeoutError):
                        came += str(one.recv(timeout=0.1)).encode()
                case _:
                    one.send(PNG)
        if rng.random() < 0.3:
            one.socket.close()  # without a word
        with contextlib.suppress(TimeoutError):
            while True:
                came += str(one.recv(timeout=0.1)).encode()
    return came


def fuzz(seed: int, seconds: float) -> int:
    """Send cases for so many seconds, and give their number.

    Raises:
        AssertionError: Naming seed and case, if an answer was `internal`, a good call is no longer
            answered, or something of what was sent is still held.
    """
    rng, number, stream = random.Random(seed), 0, ""
    failures: list[str] = []
    noticed = logging.Handler(logging.ERROR)
    noticed.emit = lambda record: failures.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("ray.serve").addHandler(noticed)
    with running(tokens=(TOKEN, OTHER_TOKEN), max_unanswered=6, body_s=1.0, idle_s=20) as service:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            case = random.Random(rng.getrandbits(64))
            stream = service.open(TOKEN) if number % 5 == 0 else stream
            send = send_raw if case.random() < 0.6 else send_messages
            came = send(case, service, stream)
            where = f"seed {seed}, case {number}: {came[-300:]!r}"
            assert b'"internal"' not in came, where
            assert b"HTTP/1.1 500" not in came, where
            assert not failures, f"{where}: {failures}"
            if number % 5 == 4:
                service.call("DELETE", f"/v1/streams/{stream}", token=TOKEN)
            number += 1
        last = service.open(OTHER_TOKEN)
        path = f"/v1/streams/{last}/frames/0"
        status, answer, _ = service.call("POST", path, PNG, token=OTHER_TOKEN)
        assert status == 200, answer
        inner, deadline = service.service, time.monotonic() + 10
        while held := {
            "bytes": inner.memory.held, "sockets": inner.sockets.number,
            "bodies": inner.bodies.number, "places": inner.queue.running + inner.queue.waiting,
        }:  # fmt: skip
            if not any(held.values()):
                break
            assert time.monotonic() < deadline, f"seed {seed}: still held {json.dumps(held)}"
            time.sleep(0.05)
    logging.getLogger("ray.serve").removeHandler(noticed)
    return number


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    print(f"{fuzz(wanted.seed, wanted.seconds)} cases, none of them internal")


if __name__ == "__main__":
    main()

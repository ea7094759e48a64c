"""Loads for `jde bench serve`, and the measurements of their clients."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jde_ray.jobs.bench.serving.processes import holdings, killing

REFUSED = (429, 503)
_PAUSE_S = 0.5  # before a retry, unless the answer says otherwise
_SOAK_CLIENTS = 5
_OPEN_TRIES = 60


@dataclass
class Load:
    """Measurements by the clients of one load.

    Attributes:
        seconds: Duration of the load.
        calls: Number of calls; a call with its retries counts once.
        accepted_s: Seconds of every try that was answered.
        refused_s: Seconds of every first try that was not.
        failed: Calls without an answer in the end, other than refusals under overload.
        wrong: Answers that differ from those of the undisturbed service.
        statuses: Number of tries by status; 0 is a broken connection.
    """

    seconds: float = 0.0
    calls: int = 0
    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failed: int = 0
    wrong: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    def row(self, name: str) -> dict[str, Any]:
        """Figures for the table."""
        return {
            "load": name,
            "frames_per_second": len(self.accepted_s) / max(self.seconds, 1e-9),
            **{f"p{q}_ms": 1000 * quantile(self.accepted_s, q / 100) for q in (50, 95, 99)},
            "calls": self.calls,
            "refused_share": len(self.refused_s) / max(1, self.calls),
            "refused_p99_ms": 1000 * quantile(self.refused_s, 0.99),
            "failed": self.failed,
            "wrong": self.wrong,
            "statuses": self.statuses,
        }


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 without values.

    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([], 0.9)
    (2.0, 0.0)
    """
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Client:
    """A connection whose calls are counted into a load.

    Args:
        port: Port of the service on this machine.
        load: Receives the measurements.
        lock: Guards `load`, which clients share.
        tries: Tries per call.
    """

    def __init__(self, port: int, load: Load, lock: threading.Lock, tries: int = 1) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._load, self._lock, self._tries = load, lock, tries

    def post(self, path: str, body: bytes, wanted: Any = None) -> dict[str, Any] | None:
        """Post an image and return the answer, None if there was none.

        Args:
            path: Path of the call.
            body: Encoded image.
            wanted: Expected answer, ignoring the stream's name; None for any answer.
        """
        status = 0
        values: dict[str, Any] = {}
        for attempt in range(self._tries):
            since = time.perf_counter()
            status, values, pause_s = self._try(path, body)
            self._note(attempt, status, time.perf_counter() - since)
            if status == 200:
                break
            if attempt + 1 < self._tries:
                time.sleep(pause_s)
        with self._lock:
            self._load.calls += 1
            if status == 200:
                values.pop("stream", None)
                self._load.wrong += wanted is not None and values != wanted
                return values
            self._load.failed += self._tries > 1 or status not in REFUSED
        return None

    def open(self) -> str:
        """Open a stream and return its path, or a path whose frames fail if it cannot be opened."""
        for _ in range(_OPEN_TRIES):
            status, values, pause_s = self._try("/v1/streams", b"{}")
            if status == 201:
                return f"/v1/streams/{values['stream']}"
            time.sleep(pause_s)
        return "/v1/streams/none"

    def _note(self, attempt: int, status: int, seconds: float) -> None:
        load = self._load
        with self._lock:
            load.statuses[status] = load.statuses.get(status, 0) + 1
            if status == 200:
                load.accepted_s.append(seconds)
            elif attempt == 0:
                load.refused_s.append(seconds)

    def _try(self, path: str, body: bytes) -> tuple[int, dict[str, Any], float]:
        kind = "application/json" if path == "/v1/streams" else "image/jpeg"
        try:
            self._connection.request("POST", path, body, {"content-type": kind})
            answer = self._connection.getresponse()
            values = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return 0, {}, _PAUSE_S
        return answer.status, values, float(answer.headers.get("retry-after", _PAUSE_S))


def stream_load(
    url: str, images: list[bytes], number: int, seconds: float, *, ahead: int = 2
) -> Load:
    """Play `number` streams over WebSockets, each up to `ahead` frames ahead of its answers."""
    load, lock = Load(), threading.Lock()
    begin = time.perf_counter()
    stop = begin + seconds

    def frames() -> Iterator[bytes]:
        for index in itertools.count():
            if time.perf_counter() >= stop:
                return
            yield images[index % len(images)]

    _together(lambda _: _play(url, frames(), ahead, load, lock), number)
    load.seconds = time.perf_counter() - begin  # until the last answer
    return load


def _play(url: str, frames: Iterator[bytes], ahead: int, load: Load, lock: threading.Lock) -> None:
    """Play one stream over a WebSocket and measure it."""
    from jde_ray.pipelines.serving.client.connection import connect

    sent: list[float] = []

    def timed() -> Iterator[bytes]:
        for frame in frames:
            sent.append(time.perf_counter())
            yield frame

    with connect(url).stream(25, ahead=ahead) as stream:
        for index, _tracks in enumerate(stream.track(timed())):
            with lock:
                load.calls += 1
                load.accepted_s.append(time.perf_counter() - sent[index])


def call_load(
    port: int,
    images: list[bytes],
    clients: int,
    seconds: float,
    *,
    per_second: float | None = None,
    path: str = "/v1/detect",
) -> Load:
    """Post images from several clients, as fast as they are answered or at a given rate."""
    load, lock = Load(), threading.Lock()
    begin, numbers = time.perf_counter(), itertools.count()

    def work(_: int) -> None:
        client = Client(port, load, lock)
        while time.perf_counter() - begin < seconds:
            number = next(numbers)
            if per_second is not None:
                time.sleep(max(0.0, begin + number / per_second - time.perf_counter()))
            client.post(path, images[number % len(images)])

    _together(work, clients)
    load.seconds = time.perf_counter() - begin
    return load


def killing_load(port: int, images: list[bytes], calls: int, every_s: float, tries: int) -> Load:
    """Make calls while a replica is killed every `every_s` seconds, and check every answer.

    Two clients request detections, and two play the images as streams, frame by frame.
    """
    calm, lock = Load(), threading.Lock()
    client = Client(port, calm, lock, tries)
    detections = [client.post("/v1/detect", image) for image in images]
    stream = client.open()
    tracks = [client.post(f"{stream}/frames/{seq}", image) for seq, image in enumerate(images)]
    if calm.failed:
        raise RuntimeError("the undisturbed service does not answer")

    load, numbers = Load(), iter(range(calls))
    begin = time.perf_counter()

    def detect(client: Client) -> None:
        for number in numbers:
            place = number % len(images)
            client.post("/v1/detect", images[place], detections[place])

    def play(client: Client) -> None:
        while True:
            stream, seq = client.open(), 0
            while seq < len(images):
                if next(numbers, None) is None:
                    return
                answer = client.post(f"{stream}/frames/{seq}", images[seq], tracks[seq])
                seq += answer is not None  # a frame that failed is sent again

    def work(place: int) -> None:
        (detect, play)[place % 2](Client(port, load, lock, tries))

    with killing(every_s):
        _together(work, 4)
    load.seconds = time.perf_counter() - begin
    return load


def soak_rows(
    url: str, port: int, images: list[bytes], seconds: float, rate: float
) -> list[dict[str, Any]]:
    """Run a long steady load in ten equal parts and record what the service holds after each.

    Four clients open stream after stream, and as many again that they leave for the service to
    end; a fifth requests detections.
    """
    rows = []
    for part in range(10):
        load, lock = Load(), threading.Lock()
        begin = time.perf_counter()
        stop, gap = begin + seconds / 10, _SOAK_CLIENTS / rate

        def paced(start: float, stop: float = stop, gap: float = gap) -> Iterator[bytes]:
            for index, image in enumerate(images):
                time.sleep(max(0.0, start + index * gap - time.perf_counter()))
                if time.perf_counter() > stop:
                    return
                yield image

        def work(place: int, stop: float = stop, load: Load = load, lock: Any = lock) -> None:
            client = Client(port, load, lock)
            while time.perf_counter() < stop:
                frames = paced(time.perf_counter())
                if place == 0:
                    for image in frames:
                        client.post("/v1/detect", image)
                else:
                    client.open()  # left unused
                    _play(url, frames, 1, load, lock)

        _together(work, _SOAK_CLIENTS)
        load.seconds = time.perf_counter() - begin
        rows.append(load.row(f"soak {part + 1}/10") | holdings(port))
    return rows


@contextmanager
def slow_senders(port: int, number: int) -> Iterator[None]:
    """Hold `number` connections that begin to send an image and never finish."""
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        b"Content-Length: 100000\r\n\r\n\xff\xd8"
    )
    senders = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
    try:
        for sender in senders:
            sender.sendall(head)
        yield
    finally:
        for sender in senders:
            sender.close()


def free_port() -> int:
    """A port on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _together(work: Callable[[int], None], number: int) -> None:
    with ThreadPoolExecutor(number) as pool:
        for _ in pool.map(work, range(number)):
            pass

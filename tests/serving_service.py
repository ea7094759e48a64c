"""The service in this process without Ray: the same application, detector and sessions."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import fakes
import numpy as np

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import load_network
from jde_ray.pipelines.serving import calls
from jde_ray.pipelines.serving.admission import Tokens
from jde_ray.pipelines.serving.api.routes import build_api
from jde_ray.pipelines.serving.api.server import Listener
from jde_ray.pipelines.serving.backend import TimedDetections
from jde_ray.pipelines.serving.calls import Service
from jde_ray.pipelines.serving.config import Limits, ServeConfig
from jde_ray.pipelines.serving.decoding.pool import Decoders
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.metrics import Changes, Metrics
from jde_ray.pipelines.serving.request_log import RequestLog
from jde_ray.pipelines.serving.streams.operations import Operation, Result
from jde_ray.pipelines.serving.streams.session import Session
from jde_ray.pipelines.serving.streams.snapshots import NoSnapshots
from jde_ray.pipelines.structures import VideoInfo

TRACK = replace(fakes.CONFIG, detection=replace(fakes.CONFIG.detection, resize="published"))
CONFIG = ServeConfig(track=TRACK, build_model=fakes.ColourModel, device="cpu", request_log="none")
logging.getLogger("ray.serve").setLevel(logging.WARNING)  # a line a call is too much here

HANG_S = 60.0  # no test waits as long, unless something hangs
calls._PROBE_S = HANG_S  # a busy machine is not one that answers nobody

TOKEN = "a-token-for-the-tests"  # noqa: S105 - of nothing
OTHER_TOKEN = "another-token-of-the-tests"  # noqa: S105


class MemorySnapshots:
    """A snapshot actor in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, name: str, content: bytes) -> None:
        self.kept[name] = content

    async def get(self, name: str) -> bytes | None:
        return self.kept.get(name)

    async def delete(self, name: str) -> None:
        self.kept.pop(name, None)


class LocalBackend:
    """Detector and sessions called directly; `pause_s` makes the detector slow.

    While `may_detect` is cleared, the frame that it has and those behind it wait.
    """

    def __init__(self, config: ServeConfig, *, with_snapshots: bool = True) -> None:
        self._config = config
        build_model = config.build_model or load_network
        self._detector = Detector(config.track.detection, ResourceConfig(), build_model)
        self.snapshots = MemorySnapshots() if with_snapshots else NoSnapshots()
        self.metrics, self.pause_s, self.num_detected = Metrics(), 0.0, 0
        self.may_detect = threading.Event()
        self.may_detect.set()
        self._lock = asyncio.Lock()  # one frame at a time, as a network does
        self.lose_session()

    def lose_session(self) -> None:
        """Lose the session as a kill of its replica does: only the snapshots are left."""
        self.session = Session(self._config, self.snapshots)

    async def detect(self, frame: NetworkFrame) -> TimedDetections:
        async with self._lock:
            await asyncio.sleep(self.pause_s)
            while not self.may_detect.is_set():
                await asyncio.sleep(0.005)
            self.num_detected += 1
            info = VideoInfo(frame.width, frame.height, 1.0)
            found, _ = self._detector.find(frame.pixels[None], [info], [0])
            return TimedDetections(found[0], self.pause_s)

    async def send(self, session: int, operation: Operation[Result]) -> Result:
        assert session == 0
        return await self.session.execute(operation)

    async def check_ready(self) -> None:
        return None

    async def count_detectors(self) -> int:
        return 1

    async def push(self, changes: Changes) -> None:
        self.metrics.add(changes)

    async def merge(self, changes: Changes) -> Metrics:
        self.metrics.add(changes)
        return self.metrics


@dataclass
class Running:
    """A service that listens on a free port."""

    port: int
    backend: LocalBackend
    service: Service

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        token: str | None = None,
        kind: str = "image/png",
        **headers: str,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or bytes), headers."""
        return call(self.port, method, path, body, token=token, kind=kind, **headers)

    def wait_until_ready(self) -> None:
        """Decoding processes take a while to start on a busy machine."""
        deadline = time.monotonic() + 60
        while self.call("GET", "/readyz")[0] != 200:
            assert time.monotonic() < deadline

    def open(self, token: str | None = None, rate: float = 25.0) -> str:
        body = json.dumps({"frames_per_second": rate}).encode()
        status, answer, _ = self.call(
            "POST", "/v1/streams", body, token=token, kind="application/json"
        )
        assert status == 201, answer
        return answer["stream"]


def call(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    token: str | None = None,
    kind: str = "image/png",
    **headers: str,
) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent.setdefault("content-type", kind)
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    answered = {name.lower(): value for name, value in response.getheaders()}
    if "json" in answered.get("content-type", ""):
        return response.status, json.loads(content), answered
    return response.status, content, answered


@contextlib.contextmanager
def running(
    *,
    tokens: tuple[str, ...] = (),
    config: ServeConfig = CONFIG,
    with_snapshots: bool = True,
    **limits: Any,
) -> Iterator[Running]:
    """A service in a thread of this process."""
    limits = {"decode_s": HANG_S, "request_s": HANG_S, **limits}
    config = replace(config, limits=replace(config.limits, **limits))
    started = threading.Event()
    kept: dict[str, Any] = {}

    async def build() -> None:
        backend = LocalBackend(config, with_snapshots=with_snapshots)
        service = Service(config, backend, Tokens(tokens), DECODERS)
        port, stop = free_port(), asyncio.Event()
        log = RequestLog(config.request_log)
        listener = Listener(
            build_api(service, log),
            f"127.0.0.1:{port}",
            config.limits.max_body_bytes,
            memory=service.memory,
            message_s=config.limits.body_s,
        )
        await listener.open()
        kept.update(port=port, backend=backend, service=service)
        loop = asyncio.get_running_loop()
        kept["stop"] = lambda: loop.call_soon_threadsafe(stop.set)
        started.set()
        await stop.wait()
        await listener.close(5.0)
        log.close()

    thread = threading.Thread(target=asyncio.run, args=(build(),), daemon=True)
    thread.start()
    assert started.wait(HANG_S)
    try:
        yield Running(kept["port"], kept["backend"], kept["service"])
    finally:
        kept["stop"]()
        thread.join(HANG_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Poll until it is so."""
    deadline = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def frame(number: int, seed: int = 0) -> np.ndarray:
    """`(H, W, 3)` RGB of a fake video in its source size."""
    return fakes.draw(fakes.Script(seed=seed), number).repeat(2, 0).repeat(2, 1)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


DECODERS = Decoders(2)  # of all services here: a process takes a second to start
NO_LIMITS = Limits()

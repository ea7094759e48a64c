"""`jde bench serve`: the service under load, beside the plain detector in a loop, in one run."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs._bench_machine import console, processor

_SLOW_BODIES = 100
_TRIES = 3


@dataclass
class Load:
    """What the calls of one load saw.

    Attributes:
        seconds: How long it lasted.
        accepted_s: Seconds of each call that was answered.
        refused_s: Of each that was refused at first with 429 or 503.
        failed: Calls without an answer after so many tries.
        statuses: How often each status came.
    """

    seconds: float = 0.0
    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failed: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    def row(self, name: str) -> dict[str, Any]:
        """Figures of the table."""
        figures = {f"p{q}_ms": 1000 * quantile(self.accepted_s, q / 100) for q in (50, 95, 99)}
        calls = len(self.accepted_s) + len(self.refused_s)
        return {
            "load": name,
            "frames_per_second": len(self.accepted_s) / max(self.seconds, 1e-9),
            **figures,
            "refused_share": len(self.refused_s) / max(1, calls),
            "refused_p99_ms": 1000 * quantile(self.refused_s, 0.99),
            "failed": self.failed,
            "statuses": self.statuses,
        }


def quantile(values: list[float], share: float) -> float:
    """The value that so large a share does not exceed; 0 of none.

    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([], 0.9)
    (2.0, 0.0)
    """
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def serve(
    streams: Annotated[str, typer.Option(help="Streams at once, one load after the other.")] = (
        "1,2,4,8"
    ),
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 10.0,
    detectors: Annotated[int | None, typer.Option(min=1, help="Default: one a core.")] = None,
    weights: Annotated[str, typer.Option(help="Shipped model or path.")] = "small",
    overload: Annotated[bool, typer.Option(help="2 and 5 times what it carries.")] = True,
    slow: Annotated[bool, typer.Option(help="A hundred senders that never finish.")] = True,
    kills: Annotated[int, typer.Option(min=0, help="Calls while a replica dies every 3 s.")] = 0,
    soak: Annotated[float, typer.Option(min=0, help="Seconds at 70 % load.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Delay and frames/s of the service against the number of streams, and under bad conditions."""
    from pipelines.online.running import running

    images = street_images()
    cores = len(os.sched_getaffinity(0))
    args = {
        "weights": weights,
        "device": "cpu",
        "num_detectors": detectors or cores,
        "num_ingresses": 2 if kills else 1,
        "limits": {"frames_per_second": 100_000.0, "max_streams": 1000, "idle_s": 600.0},
    }
    rows = [plain_loop(args, images, seconds, threads) for threads in sorted({1, cores})]
    best = max(row["frames_per_second"] for row in rows)
    port = _free_port()
    with running(args, port=port) as url:
        pools = [
            stream_load(url, images, number, seconds).row(f"{number} streams")
            for number in map(int, streams.split(","))
        ]
        rows += pools
        peak = max(row["frames_per_second"] for row in pools)
        unloaded = call_load(port, images, 1, seconds).row("1 client, REST")
        rows.append(unloaded)
        for factor in (2, 5) if overload else ():
            rate = factor * peak
            row = call_load(port, images, 64, seconds, per_second=rate).row(f"overload {factor}x")
            rows.append(row | {"goodput_share": row["frames_per_second"] / peak})
        if slow:
            with ExitStack() as stack:
                for _ in range(_SLOW_BODIES):
                    stack.enter_context(_slow_sender(port))
                rows.append(call_load(port, images, 1, min(seconds, 8)).row("100 slow bodies"))
        if kills:
            with _killing(3.0):
                rows.append(call_load(port, images, 4, 3600, most=kills, tries=_TRIES).row("kills"))
        if soak:
            rows += soak_rows(port, images, soak, 0.7 * peak)
    report = {
        "cpu": processor(),
        "cores": cores,
        "load_average": os.getloadavg()[0],
        "image": "640x360 JPEG",
        "peak_share_of_plain_loop": peak / best,
        "rows": rows,
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    console().print(_build_table(report))


def street_images(number: int = 40) -> list[bytes]:
    """JPEG frames of a synthetic street."""
    from models.synthetic.render import render
    from models.synthetic.scene import StreetScene
    from pipelines.online.client import encode

    scene = StreetScene(3, width=640, height=360, num_frames=number, num_people=8)
    return [encode(image, "jpeg") for image, _ in render(scene)]


def plain_loop(
    args: dict[str, Any], images: list[bytes], seconds: float, threads: int
) -> dict[str, Any]:
    """The same detector on the same frames, decoded and letterboxed before, in this process."""
    import numpy as np

    from pipelines.config import ResourceConfig
    from pipelines.detect import Detector
    from pipelines.online.deployments import settle
    from pipelines.online.images import to_network
    from pipelines.schema import VideoInfo

    detection = settle(args).track.detection
    resources = ResourceConfig(device="cpu", torch_threads=threads)
    detector = Detector(detection, resources)
    frames = [to_network(image, detection, 10**8) for image in images]
    load = Load()
    for number in range(3):
        detector.find(frames[number].pixels[None], [VideoInfo(640, 360, 1.0)], [0])
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        frame = frames[len(load.accepted_s) % len(frames)]
        since = time.perf_counter()
        info = VideoInfo(frame.width, frame.height, 1.0)
        detector.find(np.ascontiguousarray(frame.pixels[None]), [info], [0])
        load.accepted_s.append(time.perf_counter() - since)
    load.seconds = time.perf_counter() - begin
    return load.row(f"plain detector loop, {threads} threads")


def stream_load(url: str, images: list[bytes], number: int, seconds: float) -> Load:
    """So many streams over WebSockets, each ahead of its answers by two frames."""
    from pipelines.online import connect

    load, lock = Load(), threading.Lock()
    stop = time.perf_counter() + seconds

    def play(_: int) -> None:
        sent: list[float] = []

        def frames() -> Iterator[bytes]:
            while time.perf_counter() < stop:
                sent.append(time.perf_counter())
                yield images[len(sent) % len(images)]

        with connect(url).stream(25, ahead=2) as stream:
            for index, _tracks in enumerate(stream.track(frames())):
                with lock:
                    load.accepted_s.append(time.perf_counter() - sent[index])

    _together(play, number)
    load.seconds = seconds
    return load


def call_load(
    port: int,
    images: list[bytes],
    clients: int,
    seconds: float,
    *,
    per_second: float | None = None,
    most: int | None = None,
    tries: int = 1,
) -> Load:
    """Clients of `POST /v1/detect`: as fast as they are answered, or at a rate that is offered."""
    load, lock = Load(), threading.Lock()
    begin = time.perf_counter()
    taken = iter(range(10**9 if most is None else most))

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() - begin < seconds:
            with lock:
                number = next(taken, None)
            if number is None:
                return
            if per_second is not None:
                time.sleep(max(0.0, begin + number / per_second - time.perf_counter()))
            for attempt in range(tries):
                since = time.perf_counter()
                status = _post(connection, images[number % len(images)])
                spent = time.perf_counter() - since
                with lock:
                    load.statuses[status] = load.statuses.get(status, 0) + 1
                    if status == 200:
                        load.accepted_s.append(spent)
                    elif attempt == 0:
                        load.refused_s.append(spent)
                    if status != 200 and attempt == tries - 1 and tries > 1:
                        load.failed += 1
                if status == 200:
                    break
                time.sleep(0.5 if tries > 1 else 0.0)

    _together(client, clients)
    load.seconds = time.perf_counter() - begin
    return load


def soak_rows(port: int, images: list[bytes], seconds: float, rate: float) -> list[dict[str, Any]]:
    """Ten equal parts of a long steady load, with the memory of all processes of the service."""
    rows = []
    for part in range(10):
        row = call_load(port, images, 16, seconds / 10, per_second=rate).row(f"soak {part + 1}/10")
        rows.append(row | {"rss_mib": _memory_mib(), "descriptors": _descriptors()})
    return rows


def _together(work: Callable[[int], None], number: int) -> None:
    with ThreadPoolExecutor(number) as pool:
        for _ in pool.map(work, range(number)):
            pass


def _post(connection: http.client.HTTPConnection, image: bytes) -> int:
    try:
        connection.request("POST", "/v1/detect", image, {"content-type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return answer.status


def _slow_sender(port: int) -> socket.socket:
    sender = socket.create_connection(("127.0.0.1", port))
    sender.sendall(
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        b"Content-Length: 100000\r\n\r\n\xff\xd8"
    )
    return sender


class _killing:  # noqa: N801 - a context manager, read as a word
    """Kill a replica of the service every so many seconds, meanwhile."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._stop = every_s, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        import ray

        kinds = ("detectors", "sessions-0", "ingress")
        turn = 0
        while not self._stop.wait(self._every_s):
            names = sorted(
                found["name"]
                for found in ray.util.list_named_actors(all_namespaces=True)
                if f"#{kinds[turn % 3]}" in found["name"]
            )
            turn += 1
            if names:
                ray.kill(ray.get_actor(names[turn % len(names)], namespace="serve"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _service_processes() -> list[Path]:
    """`/proc` folders of the replicas that descend from this process; none without `/proc`."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(folder.name)] = (int(state.rpartition(")")[2].split()[1]), state)
    found = []
    for pid, (_, state) in parents.items():
        above = pid
        while above > 1 and above != os.getpid():
            above = parents.get(above, (0, ""))[0]
        if above == os.getpid() and "(ray::ServeRepl" in state:
            found.append(Path("/proc") / str(pid))
    return found


def _memory_mib() -> float:
    pages = [int((at / "statm").read_text().split()[1]) for at in _service_processes()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _descriptors() -> int:
    return sum(len(os.listdir(at / "fd")) for at in _service_processes())


def _build_table(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"jde serve, {report['cores']} cores, {report['cpu']}, {report['image']}",
        caption=f"peak of the streams: {report['peak_share_of_plain_loop']:.2f} of the plain "
        f"detector loop; load of the machine at the end {report['load_average']:.0f}",
    )
    table.add_column("load")
    for name in ("frames/s", "p50 ms", "p95 ms", "p99 ms", "refused", "refused p99 ms", "failed"):
        table.add_column(name, justify="right")
    for row in report["rows"]:
        table.add_row(
            row["load"],
            f"{row['frames_per_second']:.1f}",
            *(f"{row[name]:.0f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
            f"{row['refused_share']:.0%}",
            f"{row['refused_p99_ms']:.0f}",
            str(row["failed"]),
        )
    return table

"""`jde bench serve`: the service under load, compared with a plain detector loop in one run."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import AsJson, Weights, console, processor
from jde_ray.jobs.bench.serving import empty_service
from jde_ray.jobs.bench.serving.loads import (
    Load,
    call_load,
    free_port,
    killing_load,
    slow_senders,
    soak_rows,
    stream_load,
)
from jde_ray.jobs.bench.serving.processes import growth
from jde_ray.jobs.console.flags import completion
from jde_ray.pipelines.errors import ExitCode, RunError

_SLOW_BODIES = 100
_TRIES = 3
_KILL_S = 3.0
_CALLERS = 64

Row = dict[str, Any]


def serve(
    streams: Annotated[
        str, typer.Option(help="Numbers of parallel streams, one load for each.")
    ] = ("1,2,4,8"),
    seconds: Annotated[float, typer.Option(min=1, help="Duration of each load.")] = 10.0,
    detectors: Annotated[
        int | None, typer.Option(min=1, help=r"Number of detectors. \[default: one per core]")
    ] = None,
    weights: Weights = "small",
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|fp32|bf16|int8",
            help="Precision of the network.",
            autocompletion=completion(("auto", "fp32", "bf16", "int8")),
        ),
    ] = "auto",
    overload: Annotated[
        bool, typer.Option(help="Offer 2 and 5 times the peak rate, and measure an empty service.")
    ] = True,
    slow: Annotated[
        bool, typer.Option(help="Add a hundred clients that never finish their request.")
    ] = True,
    kills: Annotated[
        int, typer.Option(min=0, help="Number of calls while a replica is killed every 3 s.")
    ] = 0,
    soak: Annotated[
        float, typer.Option(min=0, help="Seconds of steady load at 70 % of the peak.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Latency and frames/s of the service by number of streams, and under adverse conditions."""
    from jde_ray.pipelines.serving.launch import running

    images = street_images()
    cores = len(os.sched_getaffinity(0))
    args = {
        "weights": weights,
        "device": "cpu",
        "track": {"detection": {"precision": precision}},
        "num_detectors": detectors or cores,
        "num_ingresses": 2 if kills else 1,
        "limits": {"frames_per_second": 100_000.0, "max_streams": 1000},
    }
    _say("plain detector loop")
    loops = [plain_loop(args, images, seconds, threads) for threads in sorted({1, cores})]
    best = max(loops, key=lambda row: row["frames_per_second"])
    port = free_port()
    _say("starting the service")
    with running({**args, "request_log": "none"}, port=port) as service:
        url = service.url
        _say(f"streams: {streams}; one caller")
        rows, promises = _steady(url, port, images, [int(n) for n in streams.split(",")], seconds)
        peak, unloaded = max(row["frames_per_second"] for row in rows[:-1]), rows[-1]
        if overload:
            more = _overloaded(port, images, seconds, peak, unloaded)
            rows, promises = rows + more[0], promises + more[1]
        if slow:
            _say(f"{_SLOW_BODIES} slow bodies")
            with slow_senders(port, _SLOW_BODIES):
                row = call_load(port, images, 1, min(seconds, 8)).row("100 slow bodies")
            rows.append(row)
            lost = row["calls"] - row["statuses"].get(200, 0)
            promises.append(_promise("good calls lost beside 100 slow bodies", lost, 0))
        if kills:
            _say(f"{kills} calls while a replica dies every {_KILL_S:g} s")
            row = killing_load(port, images, kills, _KILL_S, _TRIES).row(f"kills, {kills} calls")
            rows.append(row)
            promises += _kill_promises(row)
        if soak:
            _say(f"soak of {soak:g} s")
            parts = soak_rows(url, port, images, soak, 0.7 * peak)
            rows += parts
            promises += _soak_promises(parts, soak / 60)
    loops.append(plain_loop(args, images, seconds, best["threads"]))
    share = peak / max(row["frames_per_second"] for row in loops)
    promises.insert(
        0, _promise("streams' frames/s / plain detector loop's", share, 0.8, least=True)
    )
    report = {
        "cpu": processor(),
        "cores": cores,
        "load_average": os.getloadavg()[0],
        "image": "640x360 JPEG",
        "precision": precision,
        "rows": loops + rows,
        "promises": promises,
    }
    _print(report, as_json=as_json)


def _print(report: Row, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for table in _build_tables(report):
        console().print(table)


def _say(text: str) -> None:
    """Announce the next load on stderr, since some take minutes."""
    typer.echo(f"jde bench serve: {text}", err=True)


def street_images(number: int = 40) -> list[bytes]:
    """JPEG frames of a synthetic street."""
    from jde_ray.models.synthetic.render import render
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.serving.client.images import encode

    scene = StreetScene(3, width=640, height=360, num_frames=number, num_people=8)
    return [encode(image, "jpeg") for image, _ in render(scene)]


def plain_loop(args: Row, images: list[bytes], seconds: float, threads: int) -> Row:
    """Run the same detector in this process, on the same frames, already letterboxed."""
    import numpy as np

    from jde_ray.pipelines.config import ResourceConfig
    from jde_ray.pipelines.detection.detector import Detector
    from jde_ray.pipelines.serving.deployments import resolve_settings
    from jde_ray.pipelines.serving.images import to_network
    from jde_ray.pipelines.structures import VideoInfo

    detection = resolve_settings(args).track.detection
    detector = Detector(detection, ResourceConfig(device="cpu", torch_threads=threads))
    frames = [to_network(image, detection.size, 10**8, rect=detection.rect) for image in images]
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
    load.seconds, load.calls = time.perf_counter() - begin, len(load.accepted_s)
    return load.row(f"plain detector loop, {threads} threads") | {"threads": threads}


def _steady(
    url: str, port: int, images: list[bytes], numbers: list[int], seconds: float
) -> tuple[list[Row], list[Row]]:
    """Streams, then one caller; the only promise is that no call fails."""
    rows = [
        stream_load(url, images, number, seconds).row(f"{number} streams") for number in numbers
    ]
    if not any(row["calls"] for row in rows):
        text = f"no frame was answered within {seconds:g} s; increase --seconds"
        raise RunError(text, ExitCode.INTERNAL)
    rows.append(call_load(port, images, 1, seconds).row("1 caller"))
    return rows, [_promise("calls failed without overload", sum(r["failed"] for r in rows), 0)]


def _overloaded(
    port: int, images: list[bytes], seconds: float, peak: float, unloaded: Row
) -> tuple[list[Row], list[Row]]:
    rows, promises = [], []
    for factor in (2, 5):
        _say(f"overload {factor}x")
        load = call_load(port, images, _CALLERS, seconds, per_second=factor * peak)
        rows.append(load.row(f"overload {factor}x"))
        promises += _overload_promises(rows[-1], unloaded, peak)
    _say("a service that does nothing")
    empty_port = free_port()
    empty_service.start(empty_port)
    load = call_load(empty_port, images, _CALLERS, seconds, path="/")
    rows.append(load.row("ingress that does nothing"))
    empty_service.stop()
    return rows, promises


def _overload_promises(row: Row, unloaded: Row, peak: float) -> list[Row]:
    name = row["load"]
    slower = row["p99_ms"] / max(unloaded["p99_ms"], 1e-9)
    return [
        _promise(f"{name}: accepted p99 / p99 of 1 caller", slower, 3),
        _promise(f"{name}: ms until 99 % of the rejections", row["refused_p99_ms"], 100),
        _promise(f"{name}: goodput / peak", row["frames_per_second"] / peak, 0.8, least=True),
        _promise(f"{name}: calls neither answered nor rejected", row["failed"], 0),
    ]


def _kill_promises(row: Row) -> list[Row]:
    return [
        _promise("kills: wrong answers", row["wrong"], 0),
        _promise(f"kills: calls failed after {_TRIES} tries", row["failed"], 0),
        _promise("kills: % not answered at first", 100 * row["refused_share"], 2),
    ]


def _soak_promises(parts: list[Row], minutes: float) -> list[Row]:
    rises = {name: growth(parts, name, minutes) for name in ("memory_mib", "descriptors")}
    later = [row["streams"] for row in parts[len(parts) // 2 :]]
    return [
        _promise("soak: growth of memory in MiB per minute", rises["memory_mib"], 1),
        _promise("soak: growth of descriptors per minute", rises["descriptors"], 1),
        _promise("soak: most / fewest open streams in the second half", _ratio(later), 2),
        _promise("soak: calls failed", sum(row["failed"] for row in parts), 0),
    ]


def _ratio(values: list[float]) -> float:
    return (max(values) + 1) / (min(values) + 1)


def _promise(name: str, measured: float, wanted: float, *, least: bool = False) -> Row:
    """Compare a measurement with its promised upper bound, or lower bound with `least`."""
    kept = measured >= wanted if least else measured <= wanted
    return {
        "promise": name,
        "measured": measured,
        "wanted": f"{'>=' if least else '<='} {wanted:g}",
        "kept": kept,
    }


def _build_tables(report: Row) -> list[Table]:
    loads = Table(
        title=f"jde serve, {report['cores']} cores, {report['cpu']}, {report['image']}, "
        f"precision {report['precision']}",
        caption=f"load of the machine at the end {report['load_average']:.0f}",
    )
    loads.add_column("load")
    names = ("frames/s", "p50 ms", "p95 ms", "p99 ms", "calls", "refused", "refused p99 ms")
    for name in (*names, "failed", "wrong"):
        loads.add_column(name, justify="right")
    for row in report["rows"]:
        loads.add_row(
            row["load"],
            f"{row['frames_per_second']:.1f}",
            *(f"{row[name]:.0f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
            str(row["calls"]),
            f"{row['refused_share']:.1%}",
            f"{row['refused_p99_ms']:.0f}",
            *(str(row[name]) for name in ("failed", "wrong")),
        )
    promises = Table(title="promises")
    for name in ("promise", "measured", "wanted", "kept"):
        promises.add_column(name, justify="left" if name == "promise" else "right")
    for row in report["promises"]:
        kept = "yes" if row["kept"] else "[red]no"
        promises.add_row(row["promise"], f"{row['measured']:.2f}", row["wanted"], kept)
    return [loads, *_build_soak_table(report["rows"]), promises]


def _build_soak_table(rows: list[Row]) -> list[Table]:
    held = [row for row in rows if "memory_mib" in row]
    if not held:
        return []
    table = Table(title="what the service holds after each part of the soak")
    for name in ("part", "memory MiB", "descriptors", "shared MiB", "open streams"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for row in held:
        names = ("memory_mib", "descriptors", "shared_mib", "streams")
        table.add_row(row["load"], *(f"{row[name]:.0f}" for name in names))
    return [table]

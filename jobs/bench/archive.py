"""`jde bench archive` and `jde bench long-video`: many short videos, or a long one.

They measure the speed and memory of the dataflow itself, with a stand-in for the network, and check
that a repeated run decodes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import AsJson, console, processor
from jde_ray.jobs.bench.memory import MIB, Memory

if TYPE_CHECKING:
    from jde_ray.pipelines.output.summary import Summary

_COURSE = ("videos_per_second_by_tenth", "driver_mib_by_tenth")  # figures over time


def archive(
    videos: Annotated[
        list[int] | None,
        typer.Option(min=1, help=r"Number of videos, repeatable. \[default: 500 and 2000]"),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames per video.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Videos per second and memory for archives of many short videos, and a second run of each."""
    from jde_ray.pipelines.cluster import connected

    with connected("local"):  # one Ray for all runs, so that none includes its start
        rows = [_measure_archive(number, frames) for number in videos or [500, 2000]]
    report = {"cpu": processor(), "frames": frames, "rows": rows}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    table = Table(title=f"Archives of {frames}-frame videos, stand-in network, {processor()}")
    for name in (name for name in rows[0] if name not in _COURSE):
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:g}" for name, value in row.items() if name not in _COURSE))
    console().print(table)
    for row in rows:
        for name in _COURSE:
            figures = " ".join(f"{value:g}" for value in row[name])
            typer.echo(f"{row['videos']} videos, {name.replace('_', ' ')}: {figures}")


def long_video(
    hours: Annotated[
        float, typer.Option(min=0.001, help="Length of the video at 25 frames/s.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """One long video split into segments: speed, and memory of driver and workers over time."""
    from jde_ray.jobs.bench.stand_ins import RATE, write_videos
    from jde_ray.pipelines.cluster import connected

    with tempfile.TemporaryDirectory(prefix="jde-bench-") as folder, connected("local"):
        source = write_videos(Path(folder) / "in", 1, int(hours * 3600 * RATE))
        memory, seconds, summary = _track(source, Path(folder) / "out")
        size = sum(p.stat().st_size for p in Path(folder).glob("out/tracks/*"))
    tenths = [memory.mean(part / 10, (part + 1) / 10) for part in range(10)]
    report = {
        "cpu": processor(),
        "hours": hours,
        "frames": summary.frames,
        "rows": summary.rows,
        "seconds": round(seconds, 1),
        "frames_per_second": round(summary.frames / seconds, 1),
        "frames_per_second_by_tenth": memory.rates("frames"),
        "parquet_mib": round(size / MIB, 1),
        "driver_mib_by_tenth": [round(one["driver"]) for one in tenths],
        "association_mib_by_tenth": [round(one["association"]) for one in tenths],
        "all_workers_mib_by_tenth": [round(one["workers"]) for one in tenths],
    }
    typer.echo(json.dumps(report, indent=2 if as_json else None))


def _measure_archive(number: int, frames: int) -> dict[str, Any]:
    from jde_ray.jobs.bench.stand_ins import write_videos

    folder = Path(tempfile.mkdtemp(prefix="jde-bench-"))
    try:
        source = write_videos(folder / "in", number, frames)
        memory, seconds, summary = _track(source, folder / "out")
        _, again_s, again = _track(source, folder / "out")
    finally:
        shutil.rmtree(folder)
    driver = [memory.mean(part / 10, (part + 1) / 10)["driver"] for part in range(10)]
    growth_kib = (driver[9] - driver[1]) * 1024
    return {
        "videos": number,
        "seconds": round(seconds, 1),
        "videos_per_second": round(summary.videos_done / seconds, 1),
        "steady_videos_per_second": round(memory.steady_rate(), 1),
        "driver_kib_per_video": round(growth_kib / number / 0.8, 1),
        "again_seconds": round(again_s, 2),
        "again_frames": again.frames,
        "videos_per_second_by_tenth": memory.rates("videos_done"),
        "driver_mib_by_tenth": [round(mib) for mib in driver],
    }


def _num_associators() -> int:
    """As many as cores: with a network that costs nothing, association is most of the work."""
    return min(16, len(os.sched_getaffinity(0)))


def _track(source: Path, out: Path) -> tuple[Memory, float, Summary]:
    from jde_ray.jobs.bench import stand_ins
    from jde_ray.pipelines.config import ResourceConfig
    from jde_ray.pipelines.tracking import offline

    memory = Memory()
    started = time.perf_counter()
    is_one = len(os.listdir(source)) == 1
    options: dict[str, Any] = {"num_associators": _num_associators()}
    if is_one:
        options = {"cut_bytes": 0}
    try:
        summary = offline.track(
            [str(source)],
            str(out),
            stand_ins.config(),
            resources=ResourceConfig(num_detectors=1, device="cpu", **options),
            components=stand_ins.COMPONENTS,
            progress=memory.note,
        )
    finally:
        memory.stop()
    return memory, time.perf_counter() - started, summary

"""`jde bench archive` and `jde bench long`: many short videos, one long one; stand-in network.

What is measured is the dataflow itself: its rate, its memory, and that a finished run started
again decodes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from jde_ray.jobs.bench.machine import console, processor
from rich.table import Table

if TYPE_CHECKING:
    from jde_ray.pipelines.output.run_record import Summary
    from jde_ray.pipelines.tracking.attempts import Progress

_SAMPLE_S = 5.0
_COURSE = ("videos_per_second_by_tenth", "driver_mib_by_tenth")  # over the course of a run
MIB = 1 << 20


def archive(
    videos: Annotated[
        list[int] | None, typer.Option(min=1, help=r"Videos of a run. \[default: 500 and 2000]")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Videos a second and memory over the number of short videos; and the same run again."""
    from jde_ray.pipelines.cluster import connected

    with connected("local"):  # one Ray for all runs, so that its start is in none of them
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


def long(
    hours: Annotated[float, typer.Option(min=0.001, help="Of video at 25 frames/s.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """One long video cut into segments: rate, and memory of driver and workers as it goes on."""
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


class Memory:
    """Resident memory of this process and its Ray workers, sampled while something runs."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._done: list[tuple[float, Progress]] = []
        self._tenth = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def note(self, progress: Progress) -> None:
        """So far it has come; every tenth of the videos is said on stderr."""
        self._done.append((time.perf_counter(), progress))
        tenth = 10 * progress.videos_done // max(progress.videos, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            driver = sum(_resident(os.getpid())) / MIB
            done, seconds = progress.videos_done, progress.seconds
            typer.echo(f"{done} videos in {seconds:.0f} s, driver {driver:.0f} MiB", err=True)

    def stop(self) -> None:
        """Take no more samples."""
        self._is_over.set()
        self._thread.join()

    def mean(self, start: float, stop: float) -> dict[str, float]:
        """Mean MiB by kind of process between two shares of the time of work."""
        begin, end = self._span()
        low, high = (begin + share * (end - begin) for share in (start, stop))
        chosen = [used for at, used in self._samples if low <= at <= high]
        if not chosen:  # a run shorter than the time between samples
            chosen = [min(self._samples, key=lambda sample: abs(sample[0] - low))[1]]
        return {kind: sum(used[kind] for used in chosen) / len(chosen) for kind in chosen[0]}

    def steady_rate(self) -> float:
        """Videos a second between the first and the last receipt."""
        (begin, first), (end, last) = self._done[0], self._done[-1]
        return (last.videos_done - first.videos_done) / max(end - begin, 1e-9)

    def rates(self, kind: str) -> list[float]:
        """Videos (`videos_done`) or `frames` a second in each tenth of them."""
        times = [at for at, _ in self._done]
        counts = [float(getattr(progress, kind)) for _, progress in self._done]
        borders = np.linspace(counts[0], counts[-1], 11)
        # where several receipts say the same, the first of them
        at = np.interp(borders, *_rising(counts, times))
        return [round(float(rate), 1) for rate in np.diff(borders) / np.maximum(np.diff(at), 1e-9)]

    def _span(self) -> tuple[float, float]:
        return (self._done[0][0], self._done[-1][0]) if self._done else (0.0, 0.0)

    def _watch(self) -> None:
        while True:
            self._samples.append((time.perf_counter(), _used()))
            if self._is_over.wait(_SAMPLE_S):
                return


def _rising(counts: list[float], times: list[float]) -> tuple[list[float], list[float]]:
    """Without the points at which nothing was added."""
    kept = [i for i, count in enumerate(counts) if i == 0 or count > counts[i - 1]]
    return [counts[i] for i in kept], [times[i] for i in kept]


def _used() -> dict[str, float]:
    """From /proc; where there is none, nothing is known."""
    own = os.getpid()
    used = {"driver": sum(_resident(own)) / MIB, "association": 0.0, "workers": 0.0}
    for process in _descendants(own):
        try:
            title = Path(f"/proc/{process}/cmdline").read_bytes()
            # what is shared is the object store, which has a size of its own
            private = _resident(process)[0] / MIB
        except OSError:  # it has just ended
            continue
        if title.startswith(b"ray::"):
            used["workers"] += private
        if title.startswith(b"ray::AssociationShard"):
            used["association"] += private
    return used


def _resident(process: int) -> tuple[int, int]:
    """Resident bytes of a process, its own and shared ones."""
    try:
        fields = Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return (int(fields[1]) - int(fields[2])) * page, int(fields[2]) * page


def _descendants(process: int) -> list[int]:
    found, waiting = [], [process]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task")
        for file in tasks.glob("*/children"):
            try:
                children = [int(word) for word in file.read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _track(source: Path, out: Path) -> tuple[Memory, float, Summary]:
    from jde_ray.jobs.bench import stand_ins
    from jde_ray.pipelines.config import ResourceConfig
    from jde_ray.pipelines.tracking import offline

    memory = Memory()
    started = time.perf_counter()
    options: dict[str, Any] = {"cut_bytes": 0} if len(os.listdir(source)) == 1 else {}
    try:
        summary = offline.track(
            [str(source)],
            str(out),
            stand_ins.config(),
            resources=ResourceConfig(num_detectors=1, device="cpu", **options),
            parts=stand_ins.PARTS,
            progress=memory.note,
        )
    finally:
        memory.stop()
    return memory, time.perf_counter() - started, summary

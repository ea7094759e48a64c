"""`jde bench startup`: seconds from Return to the prompt for a clip of some frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import AsJson, console, processor

_WAYS = {"without Ray": "1000000", "with Ray": "0"}  # values of --in-process-frames
_SIZE = (640, 360)


def startup(
    frames: Annotated[int, typer.Option(min=1, help="Frames of the clip.")] = 8,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each kind; the best counts.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Seconds of `jde track` for a short clip, with and without Ray, files in memory and not."""
    with tempfile.TemporaryDirectory(prefix="jde-startup-") as name:
        clip = Path(name) / "clip.mp4"
        _write_clip(clip, frames)
        report: dict[str, Any] = {"cpu": processor(), "cores": os.cpu_count(), "frames": frames}
        for way, limit in _WAYS.items():
            run = ["track", str(clip), "--in-process-frames", limit, "--quiet", "--out"]
            outs = [str(Path(name) / f"{limit}-{number}") for number in range(repeat + 1)]
            _forget_files()
            cold = _seconds([*run, outs[0]])
            warm = min(_seconds([*run, out]) for out in outs[1:])
            report[way] = {"cold": cold, "warm": warm}
        report["help"] = min(_seconds(["track", "--help"]) for _ in range(repeat))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    console().print(_build_table(report))


def _write_clip(path: Path, frames: int) -> None:
    import numpy as np

    from jde_ray.pipelines.video.encoder import write_video

    rng = np.random.default_rng(0)
    width, height = _SIZE
    pictures = [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(frames)]
    write_video(((number / 25, picture) for number, picture in enumerate(pictures)), path, 25.0)


def _seconds(arguments: list[str]) -> float:
    command = [sys.executable, "-m", "jde_ray.jobs.cli", *arguments]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return round(time.perf_counter() - start, 2)


def _forget_files() -> None:
    """Ask the system to drop the installed packages and our own files from memory."""
    import jde_ray

    for root in {Path(sys.prefix), *map(Path, jde_ray.__path__)}:
        for folder, _, names in os.walk(root, followlinks=True):
            for name in names:
                _forget(os.path.join(folder, name))


def _forget(path: str) -> None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass
    finally:
        os.close(file)


def _build_table(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"jde track of {report['frames']} frames, {report['cores']} cores, {report['cpu']}",
        caption="Seconds from exec to exit. cold: installed files were dropped from memory. "
        f"jde track --help: {report['help']:.2f} s.",
    )
    for name in ("", "cold", "warm"):
        table.add_column(name, justify="right" if name else "left")
    for way in _WAYS:
        table.add_row(way, *(f"{report[way][kind]:.1f}" for kind in ("cold", "warm")))
    return table

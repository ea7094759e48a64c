"""`jde bench association`: the association against a plain loop, on one BLAS thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import AsJson, console, processor

if TYPE_CHECKING:
    from jde_ray.models.structures import Detections, Tracks
    from jde_ray.models.tracking.registry import AssociationConfig

SCENES = {"t20": 20, "t100": 100, "t300": 300}  # targets per frame, with 512-d embeddings
ORIGINAL_FRAMES_PER_SECOND = {"t20": 590.0, "t100": 111.0, "t300": 28.0}
# a camera that moves to and fro, so little that no row changes: mode `default` applies it
SWAY = [[[1.0, turn, shift], [-turn, 1.0, shift]] for turn, shift in ((1e-7, 1e-3), (-1e-7, -1e-3))]
BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def association(
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--association",
            metavar="NAME",
            help="Another association to measure beside both modes of jde; repeatable.",
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            metavar="FILE.yaml",
            help="Settings file of one, as of jde track, for what needs weights (ran); repeatable.",
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs over each scene.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Speed of the association with 20, 100 and 300 targets, on one BLAS thread."""
    names = list(dict.fromkeys(name or []))
    arguments = [part for other in names for part in ("--association", other)]
    arguments += [part for file in files or [] for part in ("--config", str(file))]
    _pin_blas([*arguments, "--repeat", str(repeat), *(["--json"] if as_json else [])])
    others = _configurations(names, files or [])
    rows = [_measure_scene(scene, repeat, others) for scene in SCENES]
    report: dict[str, Any] = {"cpu": processor(), "blas_threads": 1, "repeat": repeat}
    report |= {"others": list(others), "scenes": rows}
    report["camera"] = {
        f"{width}x{height}": _measure_camera(width, height, repeat)
        for width, height in ((640, 480), (1920, 1080))
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    console().print(_build_table(report))


def _configurations(names: Sequence[str], files: Sequence[Path]) -> dict[str, AssociationConfig]:
    """Settings of the other associations, by name or by the name of their file.

    Raises:
        RunError: If there is no such association, or its settings are refused.
    """
    from jde_ray.models.tracking.registry import build_config, settled
    from jde_ray.pipelines.errors import ExitCode, RunError

    try:
        others = {name: settled(build_config(name)) for name in names}
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if files:
        from jde_ray.jobs.console.options import build_settings, read_yaml

        for file in files:
            others[file.name] = build_settings(read_yaml(file)).track.tracking
    return others


def _pin_blas(arguments: list[str]) -> None:
    """Continue with one BLAS thread, in a new process if numpy is already loaded with more."""
    one_thread = dict.fromkeys(BLAS_VARIABLES, "1")
    if "numpy" in sys.modules and one_thread.items() - os.environ.items():
        command = [sys.executable, "-m", "jde_ray.jobs.bench", "association", *arguments]
        raise typer.Exit(subprocess.call(command, env=os.environ | one_thread))  # noqa: S603
    os.environ.update(one_thread)  # read when numpy is first imported


def _measure_scene(
    name: str, repeat: int, others: Mapping[str, AssociationConfig]
) -> dict[str, Any]:
    """Milliseconds per frame of the loop and all associations on one scene.

    The camera moves, but in other associations than `jde` it stands still. One that has learned
    from embeddings of another width gets the scene with such.
    """
    from jde_ray.models.synthetic import embedding_scenes
    from jde_ray.models.tracking.baseline import LoopTracker
    from jde_ray.models.tracking.config import TrackingConfig
    from jde_ray.models.tracking.registry import embedding_width
    from jde_ray.models.tracking.tracker import JDETracker

    scene = embedding_scenes.SCENES[name]
    frames = embedding_scenes.build_scene(scene)

    def build(mode: Literal["default", "published"]) -> Any:
        update = JDETracker(TrackingConfig(mode=mode), frames_per_second=30).update
        motions = cycle(SWAY)
        return lambda *found: update(*found, camera_motion=next(motions))

    loop = _best_ms(lambda: LoopTracker().update, frames, max(1, repeat // 5))
    row: dict[str, Any] = {"scene": name, "targets": SCENES[name], "loop_ms": loop}
    row["original_frames_per_second"] = ORIGINAL_FRAMES_PER_SECOND[name]
    modes: tuple[Literal["default", "published"], ...] = ("default", "published")
    measured: dict[str, float] = {
        mode: _best_ms(lambda mode=mode: build(mode), frames, repeat)  # type: ignore[misc]
        for mode in modes
    }
    for other, config in others.items():
        width = embedding_width(config) or scene.embedding_dim
        own = frames
        if width != scene.embedding_dim:
            own = embedding_scenes.build_scene(replace(scene, embedding_dim=width))
        measured[other] = _best_ms(
            lambda config=config: JDETracker(config, 30).update,  # type: ignore[misc]
            own,
            repeat,
        )
    for mode, best in measured.items():
        row[mode] = {
            "ms": best,
            "frames_per_second": 1000 / best,
            "times_loop": loop / best,
            "times_original": 1000 / best / ORIGINAL_FRAMES_PER_SECOND[name],
        }
    return row


def _measure_camera(width: int, height: int, repeat: int) -> float:
    """Milliseconds per frame of the estimate of the camera's motion, on one thread.

    Args:
        width: Width of the source in pixels.
        height: Height of the source in pixels.
        repeat: Runs over the frames; each counts with its best time.
    """
    import cv2
    import numpy as np

    from jde_ray.models.letterbox import Letterbox, fitted_size
    from jde_ray.pipelines.video.camera_motion import CameraMotion

    cv2.setNumThreads(1)
    letterbox = Letterbox(width, height, *fitted_size(width, height, (576, 320)))
    across, down = letterbox.scaled_size
    rng, scene = np.random.default_rng(0), np.zeros((down, across + 160, 3))
    for cell in (6, 24, 80):  # structure of several sizes
        noise = rng.uniform(0, 85, (down // cell + 2, (across + 160) // cell + 2, 3))
        scene += cv2.resize(noise, scene.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    pictures = np.clip(scene, 0, 255).astype(np.uint8)
    frames = [letterbox.place(pictures[:, 4 * n : 4 * n + across]) for n in range(40)]
    best = [float("inf")] * len(frames)
    for _ in range(repeat):
        camera = CameraMotion()
        for index, frame in enumerate(frames):
            start = perf_counter()
            camera.estimate(frame, letterbox)
            best[index] = min(best[index], perf_counter() - start)
    return 1000 * sum(best[1:]) / len(best[1:])


def _best_ms(
    build: Callable[[], Callable[..., Tracks]], frames: list[Detections], repeat: int
) -> float:
    """Mean over all frames of the frame's best time in any repeat, in milliseconds.

    Every repeat does the same work, so a frame's best time is the one least disturbed by other
    processes.
    """
    best = [float("inf")] * len(frames)
    for _ in range(repeat):
        update = build()
        for index, frame in enumerate(frames):
            start = perf_counter()
            update(frame.tlbr, frame.scores, frame.embeddings)
            best[index] = min(best[index], perf_counter() - start)
    return 1000 * sum(best) / len(best)


def _said(camera: dict[str, float]) -> str:
    return ", ".join(f"{size} {ms:.2f} ms/frame" for size, ms in camera.items())


def _build_table(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"Association, 512-d embeddings, one BLAS thread, {report['cpu']}",
        caption="loop: one filterpy object per track, same run. "
        "original: frames/s quoted for it on an idle EPYC core. "
        f"Camera motion, one thread: {_said(report['camera'])}.",
    )
    for name in ("targets", "mode", "ms/frame", "frames/s", "x loop", "original", "x original"):
        table.add_column(name, justify="left" if name == "mode" else "right")
    for row in report["scenes"]:
        original = f"{row['original_frames_per_second']:.0f}"
        loop = row["loop_ms"]
        table.add_row(str(row["targets"]), "loop", f"{loop:.3f}", f"{1000 / loop:.0f}", "1.0")
        for mode in ("published", "default", *report["others"]):
            figures = row[mode]
            table.add_row(
                "",
                mode,
                f"{figures['ms']:.3f}",
                f"{figures['frames_per_second']:.0f}",
                f"{figures['times_loop']:.1f}",
                original,
                f"{figures['times_original']:.1f}",
            )
        table.add_section()
    return table

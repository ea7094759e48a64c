"""`jde bench`: how fast the parts are on this machine. Also `python -m jobs.bench`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from models.structures import Detections, Tracks

app = typer.Typer(help="Measure the parts of jde on this machine.", no_args_is_help=True)

_SCENES = {"t20": 20, "t100": 100, "t300": 300}  # targets a frame, 512-d embeddings
ORIGINAL_FRAMES_PER_SECOND = {"t20": 590.0, "t100": 111.0, "t300": 28.0}
QUICK = ("small", "darknet53-576x320")  # of the networks
_BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@app.command()
def association(
    repeat: Annotated[int, typer.Option(min=1, help="Runs over each scene.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Frames a second of the association at 20, 100 and 300 targets, one BLAS thread."""
    _pin_blas(["--repeat", str(repeat), *(["--json"] if as_json else [])])
    rows = [_measure_scene(name, repeat) for name in _SCENES]
    report = {"cpu": _processor(), "blas_threads": 1, "repeat": repeat, "scenes": rows}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    Console(width=None if os.isatty(1) else 110).print(_build_table(report))


@app.command()
def network(
    name: Annotated[
        list[str] | None, typer.Option("--config", help="Configuration; all unless given.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Frames at once. Default: 1, 4; on a GPU 1, 16.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32 or bf16; both unless given.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU. Default: every core it may use.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Through torch.compile.")] = False,
    graphs: Annotated[bool, typer.Option("--graphs", help="Through CUDA graphs.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="small and darknet53-576x320, one frame, briefly.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Frames a second of the network, from bytes to detections; its share of the limit; memory."""
    import torch

    from jobs._bench_network import PRECISIONS, NetworkBench
    from models.jde.config import CONFIGURATIONS

    _check_known("config", name, CONFIGURATIONS)
    _check_known("precision", precision, PRECISIONS)
    has_gpu = torch.cuda.is_available()
    where: Literal["cpu", "cuda"] = "cpu" if device == "cpu" or not has_gpu else "cuda"
    if (device == "cuda" or graphs) and where == "cpu":
        wanted = "--graphs" if graphs else "--device cuda"
        raise RunError(f"bench: {wanted} needs a CUDA device, there is none", ExitCode.REFUSED)
    batches = (1,) if quick else (1, 16) if where == "cuda" else (1, 4)
    bench = NetworkBench(
        names=tuple(name or (QUICK if quick else CONFIGURATIONS)),
        batches=tuple(batch or batches),
        precisions=tuple(precision or PRECISIONS),
        device=where,
        threads=threads or len(os.sched_getaffinity(0)),
        seconds=0.5 if quick else 3.0,
        compiled=compiled,
        graphs=graphs,
    )
    machine = torch.cuda.get_device_name() if where == "cuda" else _processor()
    rows = list(bench.rows())
    report = {"device": machine, "threads": bench.threads, "torch": torch.__version__, "rows": rows}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    Console(width=None if os.isatty(1) else 110).print(_build_network_table(report))


@app.command()
def modes(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", show_default=False)],
    weights: Annotated[str, typer.Option(help="Shipped model or path.")] = "small",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Network input.")] = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Of each source.")] = 100,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
) -> None:
    """What the quick ways of running the network change: boxes moved, ids changed. As JSON."""
    import torch

    from jobs import _bench_modes
    from jobs._options import parse_size
    from pipelines.plan import find_videos

    torch.set_num_threads(threads)
    try:
        models = _bench_modes.build_models(weights, None if size is None else parse_size(size))
        videos = [find_videos([source])[0][0] for source in sources]
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    for video in videos:
        for row in _bench_modes.measure(video, models, max_frames):
            typer.echo(json.dumps(row))


def _check_known(option: str, given: list[str] | None, accepted: Collection[str]) -> None:
    for value in given or ():
        if value not in accepted:
            text = f"{option}: got {value!r}, accepted are {', '.join(accepted)}"
            raise RunError(text, ExitCode.REFUSED)


def _build_network_table(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"Network, {report['device']}, {report['threads']} CPU threads",
        caption="Best run, uint8 frames to detections, about 50 candidates a frame. limit: a large "
        "matrix product of the same precision in this run. memory: of the process, or of the GPU.",
    )
    table.add_column("configuration", no_wrap=True)
    figures = ("ms/batch", "frames/s", "GFLOP/frame", "limit GFLOP/s", "% of limit", "peak MiB")
    for column in ("batch", "type", *figures):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        table.add_row(
            row["configuration"],
            str(row["batch"]),
            row["precision"],
            f"{row['ms']:.1f}",
            f"{row['frames_per_second']:.2f}",
            f"{row['gflop_a_frame']:.1f}",
            f"{row['limit_gflop_per_second']:.0f}",
            f"{100 * row['share_of_limit']:.0f}",
            f"{row['peak_mib']:.0f}",
        )
    return table


def _pin_blas(arguments: list[str]) -> None:
    """Go on with one BLAS thread; where numpy is loaded with more, in a process of its own."""
    one_thread = dict.fromkeys(_BLAS_VARIABLES, "1")
    if "numpy" in sys.modules and one_thread.items() - os.environ.items():
        command = [sys.executable, "-m", "jobs.bench", "association", *arguments]
        raise typer.Exit(subprocess.call(command, env=os.environ | one_thread))  # noqa: S603
    os.environ.update(one_thread)  # read when numpy is first imported


def _measure_scene(name: str, repeat: int) -> dict[str, Any]:
    """Milliseconds a frame of the loop and of both modes on one scene."""
    from models.synthetic.embedding_scenes import SCENES, build_scene
    from models.tracking.baseline import LoopTracker
    from models.tracking.config import TrackingConfig
    from models.tracking.tracker import JDETracker

    frames = build_scene(SCENES[name])

    def build(mode: Literal["default", "published"]) -> Any:
        return JDETracker(TrackingConfig(mode=mode), frames_per_second=30).update

    loop = _best_ms(lambda: LoopTracker().update, frames, max(1, repeat // 5))
    row: dict[str, Any] = {"scene": name, "targets": _SCENES[name], "loop_ms": loop}
    row["original_frames_per_second"] = ORIGINAL_FRAMES_PER_SECOND[name]
    modes: tuple[Literal["default", "published"], ...] = ("default", "published")
    for mode in modes:
        best = _best_ms(lambda mode=mode: build(mode), frames, repeat)  # type: ignore[misc]
        row[mode] = {
            "ms": best,
            "frames_per_second": 1000 / best,
            "times_loop": loop / best,
            "times_original": 1000 / best / ORIGINAL_FRAMES_PER_SECOND[name],
        }
    return row


def _best_ms(
    build: Callable[[], Callable[..., Tracks]], frames: list[Detections], repeat: int
) -> float:
    """Mean over the frames of each frame's best time over the repeats, in milliseconds.

    Every repeat does the same work, so the best time of a frame is the one in which nothing else
    had the processor.
    """
    best = [float("inf")] * len(frames)
    for _ in range(repeat):
        update = build()
        for index, frame in enumerate(frames):
            start = perf_counter()
            update(frame.tlbr, frame.scores, frame.embeddings)
            best[index] = min(best[index], perf_counter() - start)
    return 1000 * sum(best) / len(best)


def _processor() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _build_table(report: dict[str, Any]) -> Table:
    table = Table(
        title=f"Association, 512-d embeddings, one BLAS thread, {report['cpu']}",
        caption="loop: one filterpy object a track, same run. "
        "original: its quoted frames/s on a quiet EPYC core.",
    )
    for name in ("targets", "mode", "ms/frame", "frames/s", "x loop", "original", "x original"):
        table.add_column(name, justify="left" if name == "mode" else "right")
    for row in report["scenes"]:
        original = f"{row['original_frames_per_second']:.0f}"
        loop = row["loop_ms"]
        table.add_row(str(row["targets"]), "loop", f"{loop:.3f}", f"{1000 / loop:.0f}", "1.0")
        for mode in ("published", "default"):
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


if __name__ == "__main__":
    app()

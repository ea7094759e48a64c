"""`jde bench`: measure speed and memory on this machine. Also `python -m jobs.bench`.

A larger verb is a function in its own module, registered here. Those modules import heavy
libraries only when called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Annotated, Literal

import typer

from jde_ray.jobs.bench.archive import archive, long_video
from jde_ray.jobs.bench.association import association
from jde_ray.jobs.bench.counting import count
from jde_ray.jobs.bench.embedders import embedders
from jde_ray.jobs.bench.engines.command import engines
from jde_ray.jobs.bench.folds.command import folds
from jde_ray.jobs.bench.gpu.command import gpu
from jde_ray.jobs.bench.machine import AsJson, Weights, console, processor
from jde_ray.jobs.bench.models import models
from jde_ray.jobs.bench.paper.ablation.command import ablation
from jde_ray.jobs.bench.paper.figure3 import figure3
from jde_ray.jobs.bench.paper.figure4 import figure4
from jde_ray.jobs.bench.paper.speed import speed
from jde_ray.jobs.bench.paper.table3 import table3
from jde_ray.jobs.bench.pipeline import pipeline
from jde_ray.jobs.bench.serving.serve import serve
from jde_ray.jobs.bench.sizing import sizing
from jde_ray.jobs.bench.startup import startup
from jde_ray.jobs.console.runner import CONTEXT
from jde_ray.pipelines.errors import ExitCode, RunError

app = typer.Typer(
    help="Measure speed and memory on this machine.", context_settings=CONTEXT, add_completion=False
)
for _verb in (
    ablation,
    association,
    pipeline,
    sizing,
    archive,
    long_video,
    count,
    embedders,
    engines,
    figure3,
    figure4,
    folds,
    gpu,
    models,
    serve,
    speed,
    startup,
    table3,
):
    app.command()(_verb)

QUICK = ("small", "darknet53-576x320")  # networks of --quick


@app.command()
def network(
    name: Annotated[
        list[str] | None,
        typer.Option("--config", help=r"Network configuration, repeatable. \[default: all]"),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help=r"Batch size, repeatable. \[default: 1 and 4; on a GPU 1 and 16]"),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help=r"fp32, bf16 or int8 (shipped networks), repeatable. \[default: all that this "
            "machine has units for]"
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device that the network runs on.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help=r"CPU threads. \[default: one per core]")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Run the network through torch.compile.")
    ] = False,
    graphs: Annotated[
        bool, typer.Option("--graphs", help="Run the network through CUDA graphs.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A short run: small and darknet53-576x320, one frame at a time."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Network speed from bytes to detections, as a share of the machine's limit, and memory."""
    import torch

    from jde_ray.jobs.bench.configurations import JOINT, NAMES
    from jde_ray.jobs.bench.network import PRECISIONS, NetworkBench, build_table
    from jde_ray.pipelines.detection.precision import is_emulated, warn_of_emulation

    accepted = JOINT if compiled or graphs else NAMES
    _check_known("config", name, accepted)
    _check_known("precision", precision, PRECISIONS)
    has_gpu = torch.cuda.is_available()
    where: Literal["cpu", "cuda"] = "cpu" if device == "cpu" or not has_gpu else "cuda"
    if (device == "cuda" or graphs) and where == "cpu":
        wanted = "--graphs" if graphs else "--device cuda"
        raise RunError(f"bench: {wanted} needs a CUDA device, there is none", ExitCode.REFUSED)
    batches = (1,) if quick else (1, 16) if where == "cuda" else (1, 4)
    measured = tuple(precision or (p for p in PRECISIONS if not is_emulated(p, where)))
    bench = NetworkBench(
        names=tuple(name or (QUICK if quick else accepted)),
        batches=tuple(batch or batches),
        precisions=measured,
        device=where,
        threads=threads or len(os.sched_getaffinity(0)),
        seconds=0.5 if quick else 3.0,
        compiled=compiled,
        graphs=graphs,
    )
    for one in precision or ():
        warn_of_emulation(one, where)
    machine = torch.cuda.get_device_name() if where == "cuda" else processor()
    rows = list(bench.rows())
    report = {"device": machine, "threads": bench.threads, "torch": torch.__version__, "rows": rows}
    if precision is None:
        report["left_out"] = [one for one in PRECISIONS if one not in measured]
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    console().print(build_table(report))


@app.command()
def precision(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", show_default=False)],
    weights: Weights = "small",
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Input size of the network.")
    ] = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Frames per source.")] = 100,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """How far bf16 and other fast modes move boxes and change ids, as lines of JSON."""
    from jde_ray.jobs.bench import precision as bench
    from jde_ray.jobs.console.options import parse_size
    from jde_ray.pipelines.detection.precision import warn_of_emulation
    from jde_ray.pipelines.sources.discovery import find_videos
    from jde_ray.pipelines.torch_setup import set_up_torch

    set_up_torch(threads)
    warn_of_emulation("bf16", "cpu")
    try:
        models = bench.build_models(weights, None if size is None else parse_size(size))
        videos = [find_videos([source])[0][0] for source in sources]
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    for video in videos:
        for row in bench.measure(video, models, max_frames):
            typer.echo(json.dumps(row))


def _check_known(option: str, given: list[str] | None, accepted: Collection[str]) -> None:
    for value in given or ():
        if value not in accepted:
            text = f"{option}: got {value!r}, expected {', '.join(accepted)}"
            raise RunError(text, ExitCode.REFUSED)

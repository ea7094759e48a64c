"""`jde bench`: how fast the parts are on this machine. Also `python -m jobs.bench`.

A larger verb is a function of its own module, registered here; those modules import libraries only
when they are called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Annotated, Literal

import typer

from jde_ray.jobs.bench.archive import archive, long_video
from jde_ray.jobs.bench.association import association
from jde_ray.jobs.bench.machine import console, processor
from jde_ray.jobs.bench.paper.figure3 import figure3
from jde_ray.jobs.bench.paper.figure4 import figure4
from jde_ray.jobs.bench.paper.speed import speed
from jde_ray.jobs.bench.paper.table3 import table3
from jde_ray.jobs.bench.pipeline import pipeline, sizing
from jde_ray.jobs.bench.serving.serve import serve
from jde_ray.jobs.console.runner import CONTEXT
from jde_ray.pipelines.errors import ExitCode, RunError

app = typer.Typer(help="Measure the parts of jde on this machine.", context_settings=CONTEXT)
for _verb in (
    association,
    pipeline,
    sizing,
    archive,
    long_video,
    figure3,
    figure4,
    serve,
    speed,
    table3,
):
    app.command()(_verb)

QUICK = ("small", "darknet53-576x320")  # of the networks


@app.command()
def network(
    name: Annotated[
        list[str] | None, typer.Option("--config", help="Configuration; all unless given.")
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help=r"Frames at once. \[default: 1, 4; on a GPU 1, 16]"),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32 or bf16; both unless given.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help=r"Of the CPU. \[default: every core it may use]")
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

    from jde_ray.jobs.bench.network import PRECISIONS, NetworkBench, build_table
    from jde_ray.models.jde.config import CONFIGURATIONS

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
    machine = torch.cuda.get_device_name() if where == "cuda" else processor()
    rows = list(bench.rows())
    report = {"device": machine, "threads": bench.threads, "torch": torch.__version__, "rows": rows}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    console().print(build_table(report))


@app.command()
def precision(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", show_default=False)],
    weights: Annotated[str, typer.Option(help="Shipped model or path.")] = "small",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Network input.")] = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Of each source.")] = 100,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
) -> None:
    """What the quick ways of running the network change: boxes moved, ids changed. As JSON."""
    import torch

    from jde_ray.jobs.bench import precision as bench
    from jde_ray.jobs.console.options import parse_size
    from jde_ray.pipelines.sources.discovery import find_videos

    torch.set_num_threads(threads)
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

"""`jde bench sizing`: CPU cores that a GPU needs, from the working time of a finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import AsJson, console
from jde_ray.pipelines.errors import ExitCode, RunError


def sizing(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A finished run, or its summary.json.")],
    gpu_fps: Annotated[
        list[float] | None,
        typer.Option(min=0.1, help=r"Frames/s of the network on a GPU. \[default: 100, 400, 1000]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How many cores decoding and association need to keep a GPU busy."""
    summary = _read_summary(out)
    rows = sizing_rows(summary, gpu_fps or [100.0, 400.0, 1000.0])
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title=f"Cores for each GPU, from {summary['frames']} frames of {out}")
    for name in ("GPU frames/s", "decoding", "association", "together"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(f"{row['gpu_frames_per_second']:g}", *(
            f"{row[name]:.1f}" for name in ("decode_cores", "association_cores", "cores")
        ))  # fmt: skip
    console().print(table)


def sizing_rows(summary: dict[str, Any], speeds: Sequence[float]) -> list[dict[str, float]]:
    """Cores needed at each GPU speed: a stage's seconds per frame times frames per second.

    Args:
        summary: Contents of a run's `summary.json`.
        speeds: Frames per second of the network on one GPU.
    """
    a_frame = {
        stage: summary["seconds"][stage] / summary["frames"] for stage in ("decode", "associate")
    }
    return [
        {
            "gpu_frames_per_second": speed,
            "decode_cores": round(speed * a_frame["decode"], 3),
            "association_cores": round(speed * a_frame["associate"], 3),
            "cores": round(speed * sum(a_frame.values()), 3),
        }
        for speed in speeds
    ]


def _read_summary(out: str) -> dict[str, Any]:
    from jde_ray.pipelines.storage.stores import open_store

    folder, _, key = out.rpartition("/") if out.endswith(".json") else (out, "/", "summary.json")
    try:
        summary: dict[str, Any] = json.loads(open_store(folder).get(key))
        frames = summary["frames"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"bench: {out} has no summary of a finished run", ExitCode.REFUSED
        ) from error
    if not frames:
        raise RunError(
            f"bench: the last run in {out} processed no frames; name one that did", ExitCode.REFUSED
        )
    return summary

"""`jde bench table3`: the paper's Table 3 with measured rows beside the published ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jde_ray.jobs.bench.clocks import Clock, check_clock
from jde_ray.jobs.bench.machine import console, processor
from jde_ray.jobs.bench.paper.table3_rows import build_table, measured_row
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.run_flags import choose
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.paper.comparison import Measured
    from jde_ray.jobs.bench.paper.systems import System


@takes(flags=choose("weights", "threads"))
def table3(
    systems: Annotated[
        Path | None,
        typer.Option(
            metavar="SYSTEMS.yaml",
            help="Systems to measure now: detector, embedder and association of each.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TREE",
            help="Sequences to measure on, repeatable; without --systems, with --weights.",
        ),
    ] = None,
    measured: Annotated[
        list[Path] | None,
        typer.Option(metavar="SPEED.json", help="File written by jde bench speed; repeatable."),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published/--no-published", help="Show the paper's rows too.")
    ] = True,
    *,
    flags: Given,
    max_frames: Annotated[int | None, typer.Option(min=6, help="Frames per sequence.")] = None,
    clock: Clock = "wall",
    out: Annotated[
        Path, typer.Option(help="Folder for table3.json and the text files of --systems.")
    ] = Path("runs/table3"),
) -> None:
    """The paper's Table 3 (online trackers, MOT-16 test) with systems measured on this machine.

    Published are the accuracies and speeds that the paper prints. Measured are the systems of
    SYSTEMS.yaml, with the weights and settings that the file names, on the sequences of --data:
    those named like a published system stand below it. Their tracks are written as text for
    MOTChallenge's server; without ground truth they have no accuracy.
    """
    try:
        rows, notes = _of_systems(systems, data, flags, max_frames, clock, out)
        reports = [(path.parent.name, read_report(path)) for path in measured or []]
        if data and systems is None:
            from jde_ray.jobs.bench.paper.speed import measure_speed

            now = measure_speed(data, flags, None, max_frames, out, clock)
            reports.append(("measured now", now))
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    lines = [measured_row(row) for row in rows]
    lines += [measured_row(as_row(name, report)) for name, report in reports]
    console(150).print(build_table(lines, published=published))
    for line in notes + [note(name, report) for name, report in reports]:
        typer.echo(line)


def _of_systems(
    file: Path | None,
    data: list[Path] | None,
    given: Given,
    max_frames: int | None,
    clock: str,
    out: Path,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the systems of a file, written to `out`, and lines that describe them."""
    if file is None:
        return [], []
    if not data:
        raise ValueError("data: got none, expected sequences to measure the systems on")
    if "weights" in given:
        raise ValueError("weights: got it beside --systems, which name the weights of each")
    from jde_ray.jobs.bench.paper.comparison import measure
    from jde_ray.jobs.bench.paper.footage import find_sequences
    from jde_ray.jobs.bench.paper.systems import build_systems, read_systems

    threads = given.get("threads", ResourceConfig().torch_threads)
    check_clock(clock, threads)
    systems = read_systems(file)
    footage = find_sequences(data)
    combinations = build_systems(systems, footage, threads)
    found = [measure(one, combinations, max_frames, clock) for one in footage]
    rows = []
    for system, own in zip(systems, zip(*found, strict=True), strict=True):
        rows.append(system_row(system, own))
        write_tracks(out / system.name, own)
    report = {"machine": processor(), "threads": threads, "clock": clock, "rows": rows}
    (out / "table3.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    names = ", ".join(one.video.name for one in footage)
    scored = ", ".join(one.video.name for one in footage if one.truth is not None)
    notes = [
        f"measured on {names}; {processor()}, threads: {threads}, {clock} time; scored on "
        f"{scored or 'nothing, since there is no ground truth'}",
        *(f"{system.name}: {row['weights']}" for system, row in zip(systems, rows, strict=True)),
        f"figures in {out / 'table3.json'}, tracks for the server in {out}/SYSTEM/SEQUENCE.txt",
    ]
    return rows, notes


def system_row(system: System, measured: Sequence[Measured]) -> dict[str, Any]:
    """A row of a system over all sequences as one; the speed of saved detections is as said."""
    from jde_ray.jobs.bench.paper.combinations import OWN
    from jde_ray.jobs.bench.paper.comparison import STAGES
    from jde_ray.jobs.bench.paper.speed import rates, row_of
    from jde_ray.jobs.bench.paper.systems import (
        declared_embedder,
        detector_file,
        network_name,
        trained_on,
    )

    row = row_of("all", measured)
    if system.detections:
        row["seconds"] = dict.fromkeys(STAGES, 0.0) | row["seconds"] | {"detect": 0.0}
        row |= rates(row["frames"], row["seconds"])
    boxes, identities = trained_on(system)
    embedder = declared_embedder(system)
    own = "its own" if measured[0].embedding == OWN else "no"
    described = f"{own} embeddings" if embedder is None else str(embedder.file)
    return {
        **row,
        "name": system.name,
        "detector": "saved" if system.detections else network_name(detector_file(system)),
        "embedding": "-" if embedder is None else network_name(embedder.file),
        "boxes_per_frame": row["boxes"],
        "boxes": boxes,
        "identities": identities,
        "fpsd": system.fpsd or ("-" if system.detections else ""),
        "weights": f"{system.detector or system.detections} + {described}",
    }


def write_tracks(folder: Path, measured: Sequence[Measured]) -> None:
    """Write the tracks of each sequence as MOTChallenge's server takes them."""
    from jde_ray.pipelines.formats.mot import format_results

    folder.mkdir(parents=True, exist_ok=True)
    for one in measured:
        text = format_results(one.tracks, None)
        (folder / f"{one.sequence}.txt").write_text(text, encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Read a file written by `jde bench speed`.

    Raises:
        RunError: If it was not.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        _ = report["overall"]["FPS_decoded"], report["weights"], report["machine"]
        _ = report["threads"], report["embedding"], report["precision"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"measured: {path} was not written by jde bench speed ({error})", ExitCode.REFUSED
        ) from error
    assert isinstance(report, dict)  # noqa: S101 - it has keys
    return report


def as_row(name: str, report: dict[str, Any]) -> dict[str, Any]:
    """A report of `jde bench speed` as `measured_row` takes it."""
    own = {key: report.get(key) for key in ("boxes", "identities")}
    is_own = report["embedding"] in ("joint", "none")
    return {
        **report["overall"],
        **own,
        "name": f"{Path(report['weights']).stem} ({name})",
        "detector": Path(report["weights"]).stem,
        "embedding": "-" if is_own else report["embedding"],
    }


def note(name: str, report: dict[str, Any]) -> str:
    """Describe the machine and data of a measured row."""
    scored = ", ".join(report["overall"]["scored"]) or "nothing with ground truth"
    return (
        f"{name}: {report['weights']} in {report['precision']} on {report['machine']}, "
        f"{report['threads']} threads; scored on {scored}"
    )

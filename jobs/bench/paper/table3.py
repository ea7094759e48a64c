"""`jde bench table3`: the paper's Table 3 with measured rows beside the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import console
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.run_flags import choose
from jde_ray.pipelines.errors import ExitCode, RunError

COLUMNS = ("Method", "Det", "Emb", "#box", "#id", "MOTA", "IDF1", "MT", "ML", "IDs", "FPSD",
           "FPSA", "FPS")  # fmt: skip
# As printed in the paper: MOT-16 test, private detections, Titan Xp; * is its own estimate.
PUBLISHED = (
    ("DeepSORT_2", "FRCNN", "WRN", "429K", "1.2k", "61.4", "62.2", "32.8", "18.2", "781",
     "<15*", "17.4", "<8.1"),
    ("RAR16wVGG", "FRCNN", "Inception", "429K", "-", "63.0", "63.8", "39.9", "22.1", "482",
     "<15*", "1.6", "<1.5"),
    ("TAP", "FRCNN", "MRCNN", "429K", "-", "64.8", "73.5", "40.6", "22.0", "794",
     "<15*", "18.2", "<8.2"),
    ("CNNMTT", "FRCNN", "5-Layer", "429K", "0.2K", "65.2", "62.2", "32.4", "21.3", "946",
     "<15*", "11.2", "<6.4"),
    ("POI", "FRCNN", "QAN", "429K", "16K", "66.1", "65.1", "34.0", "21.3", "805",
     "<15*", "9.9", "<6"),
    ("JDE-864", "JDE", "-", "270K", "8.7K", "62.1", "56.9", "34.4", "16.7", "1608",
     "34.3", "81.0", "24.1"),
    ("JDE-1088", "JDE", "-", "270K", "8.7K", "64.4", "55.8", "35.4", "20.0", "1544",
     "24.5", "81.5", "18.8"),
)  # fmt: skip


@takes(flags=choose("weights", "threads"))
def table3(
    measured: Annotated[
        list[Path] | None,
        typer.Option(metavar="SPEED.json", help="File written by jde bench speed; repeatable."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="TREE", help="Sequences with ground truth, to measure now."),
    ] = None,
    *,
    flags: Given,
    max_frames: Annotated[int | None, typer.Option(min=6, help="Frames per sequence.")] = None,
) -> None:
    """The paper's Table 3 (online trackers, MOT-16 test), with rows measured here below it."""
    reports = [(path.parent.name, read_report(path)) for path in measured or []]
    if data:
        from jde_ray.jobs.bench.paper.speed import measure_speed

        now = measure_speed(data, flags, None, max_frames, Path("runs/speed"))
        reports.append(("measured now", now))
    rows = [measured_row(name, report) for name, report in reports]
    console(140).print(build_table(rows))
    for name, report in reports:
        typer.echo(note(name, report))


def read_report(path: Path) -> dict[str, Any]:
    """Read a file written by `jde bench speed`.

    Raises:
        RunError: If it was not.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        _ = report["overall"]["FPSD"], report["weights"], report["machine"], report["threads"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"measured: {path} was not written by jde bench speed ({error})", ExitCode.REFUSED
        ) from error
    assert isinstance(report, dict)  # noqa: S101 - it has keys
    return report


def measured_row(name: str, report: dict[str, Any]) -> tuple[str, ...]:
    """Format a measured row; a dash stands for figures that were not measured."""
    overall, scores = report["overall"], report["overall"]["scores"]
    people = sum(scores.get(key, 0) for key in ("MT", "PT", "ML"))
    shares = [f"{100 * scores[key] / people:.1f}" if people else "-" for key in ("MT", "ML")]
    separate = report["is_separate"]
    return (
        f"{report['weights']} ({name})",
        "ONNX" if separate else "JDE",
        "ONNX" if separate else "-",
        "-",
        "-",
        *(f"{scores[key]:.1f}" if key in scores else "-" for key in ("MOTA", "IDF1")),
        *shares,
        str(scores.get("IDs", "-")),
        *(f"{overall[key]:.1f}" for key in ("FPSD", "FPSA", "FPS")),
    )


def note(name: str, report: dict[str, Any]) -> str:
    """Describe the machine and data of a measured row."""
    scored = ", ".join(report["overall"]["scored"]) or "nothing with ground truth"
    return (
        f"{name}: {report['weights']} in {report['precision']} on {report['machine']}, "
        f"{report['threads']} threads; scored on {scored}"
    )


def build_table(measured: list[tuple[str, ...]]) -> Table:
    """Build the table: published rows, and the measured ones below a line."""
    table = Table(
        title="Table 3 of the paper, with rows measured here",
        caption="Published: MOT-16 test, private detections, Titan Xp, FPS without decoding; * is "
        "the paper's estimate. Measured: other sequences, another machine, FPS with decoding, "
        "so the rows do not rank each other.",
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:3] else "right", no_wrap=True)
    for published in PUBLISHED:
        table.add_row(*published)
    table.add_section()
    for row in measured:
        table.add_row(*row)
    return table

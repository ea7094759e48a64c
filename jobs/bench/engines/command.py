"""`jde bench engines`: processor time of each engine, in turn, frame by frame."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.engines.agreement import Agreement
from jde_ray.jobs.bench.engines.networks import ENGINES, Frame, LeftOutError, Network, Setting
from jde_ray.jobs.bench.machine import AsJson, Weights, console, processor
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.models.jde.config import JDEConfig
    from jde_ray.models.jde.decode import Candidates

logger = logging.getLogger(__name__)

_UNITS = ("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_WARM_UP = 2


def engines(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", show_default=False, help="Videos to detect people in."),
    ],
    calibration: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE",
            show_default=False,
            help="Other videos, for what is quantised here; repeatable.",
        ),
    ],
    weights: Weights = "small",
    frames: Annotated[int, typer.Option(min=1, help="Frames to detect in.")] = 40,
    calibration_frames: Annotated[int, typer.Option(min=1, help="Frames to quantise by.")] = 24,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    engine: Annotated[
        list[str] | None,
        typer.Option(help=r"torch, openvino or onnxruntime, repeatable. \[default: all]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One network in torch, OpenVINO and ONNX Runtime on a CPU: speed, and agreement with fp32."""
    from jde_ray.models.jde import weights as files
    from jde_ray.pipelines.sources.sample_frames import sample_frames
    from jde_ray.pipelines.torch_setup import set_up_torch

    known = dict.fromkeys(name for name, _ in ENGINES)
    for name in engine or ():
        if name not in known:
            text = f"engine: got {name!r}, expected {', '.join(known)}"
            raise RunError(text, ExitCode.REFUSED)
    set_up_torch(threads)
    try:
        config = files.load(weights).config
        seen = sample_frames(sources, config.size, frames)[:frames]
        calibrated = sample_frames(calibration, config.size, calibration_frames)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    with tempfile.TemporaryDirectory(prefix="jde-engines-") as folder:
        setting = Setting(weights, threads, calibrated, Path(folder))
        rows = measure(config, setting, seen, engine or list(known))
    report = {"cpu": processor(), "units": _units(), "threads": threads, "frames": len(seen)}
    report |= {"calibration_frames": len(calibrated), "rows": rows}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    console().print(build_table(report))


def measure(
    config: JDEConfig, setting: Setting, frames: Sequence[Frame], names: Sequence[str]
) -> list[dict[str, Any]]:
    """A row per engine and precision; those that do not run here say why.

    Engines take turns frame by frame, so that other work on the machine slows all alike.

    Args:
        config: Configuration of the network.
        setting: What the engines get.
        frames: `(H, W, 3)` uint8 frames of the network's size.
        names: Engines to measure; torch in fp32 always is, as the others are compared with it.
    """
    import torch

    opened: dict[tuple[str, str], Network] = {}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for number, (key, build) in enumerate(ENGINES.items()):
        if number and key[0] not in names:
            continue
        rows[key] = {"engine": key[0], "precision": key[1]}
        try:
            opened[key] = build(setting)
        except LeftOutError as why:
            rows[key]["left_out"] = str(why)
        except Exception as error:
            if not number:
                raise
            logger.exception("%s in %s cannot be opened", *key)
            rows[key]["left_out"] = f"{type(error).__name__}: {error}".splitlines()[0]
    times: dict[tuple[str, str], list[float]] = {key: [] for key in opened}
    agreements = {key: Agreement() for key in opened}
    with torch.inference_mode():
        for number, frame in enumerate([*[frames[0]] * _WARM_UP, *frames]):
            found: list[Candidates] = []
            for key, network in opened.items():
                seconds, candidates = _detect(config, network, frame)
                found.append(candidates)
                if number >= _WARM_UP:
                    times[key].append(seconds)
                    agreements[key].add(found[0], candidates)
    first = next(iter(opened))
    for key in opened:
        ms = 1000 * median(times[key])
        rows[key] |= {"ms": ms, "times_fp32": 1000 * median(times[first]) / ms}
        rows[key] |= {} if key == first else agreements[key].row()
    rows[first]["candidates"] = agreements[first].candidates
    return list(rows.values())


def _detect(config: JDEConfig, network: Network, frame: Frame) -> tuple[float, Candidates]:
    """Seconds of the processor from bytes to detections, and all candidates on the way."""
    from jde_ray.models.jde.decode import decode, select

    started = process_time()
    candidates = decode(config, network(frame))
    select(candidates, 0.5, 0.4, 300)
    return process_time() - started, candidates


def _units() -> list[str]:
    import torch

    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for name in _UNITS if found.get(name)]


def build_table(report: dict[str, Any]) -> Table:
    """Format the measured rows as a table."""
    table = Table(
        title=f"{report['cpu']} ({', '.join(report['units'])}), {report['threads']} threads",
        caption=f"Processor time from bytes to detections, median of {report['frames']} frames; "
        f"quantised here by {report['calibration_frames']} others (OpenVINO: the shipped file). "
        "Against torch fp32: candidates above .5, before suppression.",
    )
    for column in ("engine", "type"):
        table.add_column(column, no_wrap=True)
    figures = ("ms", "times fp32", "candidates", "lost", "gained", "moved px", "cosine")
    for column in figures:
        table.add_column(column, justify="right")
    keys = ("ms", "times_fp32", "candidates", "lost", "gained", "moved_median_px")
    for row in report["rows"]:
        table.add_row(
            row["engine"],
            row["precision"],
            *(_text(row.get(key), 1 if key == "ms" else 2) for key in keys),
            _text(row.get("embedding_cosine"), 4),
        )
    for row in report["rows"]:
        if "left_out" in row:
            table.caption = f"{table.caption}\n{row['engine']} {row['precision']}: left out, "
            table.caption += row["left_out"]
    return table


def _text(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

"""`jde bench gpu`: sections, one after the other, none of which can stop the next."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from jde_ray.jobs.bench.gpu import tables
from jde_ray.jobs.bench.gpu.settings import Bench
from jde_ray.jobs.bench.machine import console
from jde_ray.jobs.console.flags import completion
from jde_ray.pipelines.errors import ExitCode, RunError

# in this order; `compile` takes what time is left
SECTIONS = (
    *("machine", "checks", "layers", "networks", "whole", "profile", "decoding", "compile"),
)


def gpu(
    section: Annotated[
        list[str] | None,
        typer.Option(
            "--section",
            help=rf"Only this: {', '.join(SECTIONS)}; repeatable.",
            autocompletion=completion(tuple(SECTIONS)),
        ),
    ] = None,
    seconds: Annotated[int, typer.Option(min=10, help="Time in all, about.")] = 300,
    out: Annotated[
        Path | None, typer.Option(help="File for all figures as JSON, written after each section.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cuda, or cpu to try the command without a GPU.")
    ] = "cuda",
) -> None:
    """Speed of networks, copies, decoding and the whole on a GPU, and where the time goes.

    Needs torch with Triton; Ray and PyAV need not be there.
    """
    import torch

    for name in section or ():
        if name not in SECTIONS:
            text = f"section: got {name!r}, expected {', '.join(SECTIONS)}"
            raise RunError(text, ExitCode.REFUSED)
    if device not in ("cuda", "cpu"):
        raise RunError(f"device: got {device!r}, expected cuda or cpu", ExitCode.REFUSED)
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("bench: there is no CUDA device; see --device cpu", ExitCode.REFUSED)
    report = run(Bench(device), section or SECTIONS, seconds, out)
    if report["failed"]:
        raise typer.Exit(1)


def run(bench: Bench, names: Any, seconds: float, out: Path | None) -> dict[str, Any]:
    """Run sections and return their figures; what fails is noted under `failed`."""
    report: dict[str, Any] = {"device": bench.device, "seconds": {}, "failed": {}}
    until = perf_counter() + seconds
    for name in SECTIONS:
        if name not in names:
            continue
        started = perf_counter()
        left = until - started
        print(f"--- {name}, {left:.0f} s left", flush=True)
        if left < 0:
            report["failed"][name] = "left out, there was no time"
            _keep(report, out)
            continue
        try:
            for row in _rows(name, bench, left):
                _add(report, name, row)
                _keep(report, out)
                if perf_counter() > until:
                    report["failed"][name] = "cut short, there was no time"
                    break
        except Exception as error:  # noqa: BLE001  the other sections are worth having
            traceback.print_exc(file=sys.stdout)
            report["failed"][name] = f"{type(error).__name__}: {error}"
        report["seconds"][name] = perf_counter() - started
        if name in report:
            console(140).print(*tables.show(name, report[name]), sep="\n")
        sys.stdout.flush()
        _keep(report, out)
    return report


def _keep(report: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(report, indent=1))


def _add(report: dict[str, Any], name: str, row: dict[str, Any]) -> None:
    if name in ("machine", "checks", "profile"):
        report[name] = row
    else:
        report.setdefault(name, []).append(row)


def _rows(name: str, bench: Bench, left: float) -> Iterator[dict[str, Any]]:
    from jde_ray.jobs.bench.gpu import (
        checks,
        compiled,
        decoding,
        layers,
        machine,
        networks,
        profile,
        whole,
    )

    measures: dict[str, Callable[[], Any]] = {
        "machine": lambda: [machine.measure(bench)],
        "checks": lambda: [checks.measure(bench)],
        "layers": lambda: layers.measure(bench),
        "networks": lambda: networks.measure(bench),
        "whole": lambda: whole.measure(bench),
        "profile": lambda: [profile.measure(bench)],
        "decoding": lambda: decoding.measure(bench),
        "compile": lambda: compiled.measure(bench, left),
    }
    yield from measures[name]()

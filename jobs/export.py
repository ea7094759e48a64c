"""`jde export`: weights of any accepted kind into one file. Also `python -m jobs.export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.options import parse_size
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.run_flags import choose
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError

Weights = Annotated[
    str,
    typer.Argument(metavar="WEIGHTS", show_default=False, help="Shipped model or path of a file."),
]
Format = Annotated[
    Literal["safetensors", "onnx", "torch"],
    typer.Option("--format", help="safetensors and torch are read by --weights again."),
]
Half = Annotated[
    bool, typer.Option("--half", help="safetensors: kernels as float16, half the size.")
]
Out = Annotated[Path, typer.Option(metavar="FILE", show_default=False, help="File to write.")]


@takes(flags=choose("size"))
def export(
    weights: Weights,
    out: Out,
    kind: Format = "safetensors",
    half: Half = False,
    *,
    flags: Given,
) -> None:
    r"""Write a network's weights to a file; published and Darknet files need --size.

    The ONNX file takes letterboxed RGB images in [0, 1] and returns all boxes and scores before
    NMS, and one embedding map per stride; docs/export.md shows how to use it. Writing it needs two
    more packages: pip install -e '.\[onnx]'

    Tracks, not weights, become files of other tools with jde convert.
    """
    if out.is_dir():
        raise RunError(f"out: {out} is a folder, expected a file", ExitCode.REFUSED)
    if out.suffix in SUFFIXES.values() and out.suffix != SUFFIXES[kind]:
        raise RunError(
            f"out: got {out}, expected the suffix {SUFFIXES[kind]} for {kind}", ExitCode.REFUSED
        )
    if half and kind != "safetensors":
        raise RunError(f"half: got --format {kind}, expected safetensors", ExitCode.REFUSED)
    from jde_ray.models.jde import export as onnx_file
    from jde_ray.models.jde import weights as files

    try:
        wanted = parse_size(flags["size"]) if "size" in flags else None
        model, report = files.load_reported(weights, wanted)
        notes = {k: v for k, v in files.metadata(weights).items() if k != "config"}
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    try:
        with working(f"writing {out}"):
            if kind == "safetensors":
                files.save(model, out, notes, half=half)
            elif kind == "torch":
                files.save_torch(model, out, notes)
            else:
                onnx_file.write_onnx(model, out, notes)
    except ImportError as error:
        raise RunError(
            f"format: onnx needs the package {error.name}; pip install -e '.[onnx]'",
            ExitCode.REFUSED,
        ) from error
    except OSError as error:
        raise RunError(f"out: {out} cannot be written ({error})", ExitCode.REFUSED) from error
    width, height = model.config.size
    print(f"{weights}: {report}")
    print(f"{out}: {model.config.name}, {width}x{height}, {out.stat().st_size / 1e6:.1f} MB")


SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt"}

if __name__ == "__main__":
    main(export, "export")

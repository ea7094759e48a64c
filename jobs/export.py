"""`jde export`: weights of any accepted kind into one file. Also `python -m jobs.export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.options import parse_size
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.run_flags import choose
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jde_ray.models.jde.network import JDE

_PICTURES = 170  # that calibrate 8-bit integers

Weights = Annotated[
    str,
    typer.Argument(metavar="WEIGHTS", show_default=False, help="Shipped model or path of a file."),
]
Format = Annotated[
    Literal["safetensors", "onnx", "torch", "openvino"],
    typer.Option("--format", help="safetensors and torch are read by --weights again."),
]
Int8 = Annotated[
    bool, typer.Option("--int8", help="openvino: 8-bit integers, for jde track --precision int8.")
]
Calibration = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE",
        show_default=False,
        help="openvino: videos or folders of images like those to be tracked; repeatable.",
    ),
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
    int8: Int8 = False,
    calibration: Calibration = None,
    *,
    flags: Given,
) -> None:
    r"""Write a network's weights to a file; published and Darknet files need --size.

    The ONNX file takes letterboxed RGB images in [0, 1] and returns all boxes and scores before
    NMS, and one embedding map per stride; docs/export.md shows how to use it. Writing it needs two
    more packages: pip install -e '.\[onnx]'. With --format openvino --int8 the network is quantised
    by some frames of the calibration sources, for twice to three times the speed on a CPU; that
    needs pip install -e '.\[int8]'.

    Tracks, not weights, become files of other tools with jde convert; data sets to train on are
    converted by jde data convert.
    """
    _check(out, kind, half=half, int8=int8, calibration=calibration)
    from jde_ray.models.jde import export as onnx_file
    from jde_ray.models.jde import weights as files

    if _export_reid(weights, out, kind, flags):
        return
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
            elif kind == "openvino":
                _quantise(model, out, notes | {"source_sha256": files.sha256(weights)}, calibration)
            else:
                onnx_file.write_onnx(model, out, notes)
    except ImportError as error:
        raise RunError(
            f"format: {kind} needs the package {error.name}; pip install -e "
            f"'.[{'onnx' if kind == 'onnx' else 'int8'}]'",
            ExitCode.REFUSED,
        ) from error
    except OSError as error:
        raise RunError(f"out: {out} cannot be written ({error})", ExitCode.REFUSED) from error
    width, height = model.config.size
    print(f"{weights}: {report}")
    print(f"{out}: {model.config.name}, {width}x{height}, {out.stat().st_size / 1e6:.1f} MB")


def _export_reid(weights: str, out: Path, kind: str, flags: Given) -> bool:
    """Write the ONNX file of a re-identification network; False if the weights hold another one.

    Raises:
        RunError: If it cannot be written.
    """
    from jde_ray.models.jde import weights as joint_files
    from jde_ray.models.reid import weights as files
    from jde_ray.models.reid.export import write_onnx

    try:
        facts = joint_files.metadata(weights)
        if facts.get("network") != files.NETWORK:
            return False
        if kind != "onnx" or "size" in flags:
            text = "got a re-identification network, expected --format onnx without --size"
            raise RunError(f"format: {text}", ExitCode.REFUSED)
        model = files.load(joint_files.resolve(weights))
        write_onnx(model, out, {key: text for key, text in facts.items() if key != "config"})
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    except ImportError as error:
        text = f"onnx needs the package {error.name}; pip install -e '.[onnx]'"
        raise RunError(f"format: {text}", ExitCode.REFUSED) from error
    except OSError as error:
        raise RunError(f"out: {out} cannot be written ({error})", ExitCode.REFUSED) from error
    width, height = model.config.size
    print(f"{out}: {model.config.name}, {width}x{height}, {out.stat().st_size / 1e6:.1f} MB")
    return True


def _check(out: Path, kind: str, *, half: bool, int8: bool, calibration: list[str] | None) -> None:
    from jde_ray.models.jde.int8 import SUFFIX

    wanted = SUFFIX if int8 else SUFFIXES[kind]
    if out.is_dir():
        raise RunError(f"out: {out} is a folder, expected a file", ExitCode.REFUSED)
    if (kind == "openvino") != int8 or int8 != bool(calibration):
        raise RunError(
            "format: openvino, --int8 and --calibration go together, got only some of them",
            ExitCode.REFUSED,
        )
    if not out.name.endswith(wanted) and (int8 or out.suffix in SUFFIXES.values()):
        raise RunError(f"out: got {out}, expected the suffix {wanted} for {kind}", ExitCode.REFUSED)
    if half and kind != "safetensors":
        raise RunError(f"half: got --format {kind}, expected safetensors", ExitCode.REFUSED)


def _quantise(model: JDE, out: Path, notes: dict[str, str], sources: list[str] | None) -> None:
    from jde_ray.models.jde.int8 import quantise

    quantise(model, _sample(sources or [], model.config.size), out, notes)


def _sample(sources: list[str], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """About `_PICTURES` letterboxed frames, as many of each video, evenly over its length."""
    from jde_ray.pipelines.sources.discovery import find_videos
    from jde_ray.pipelines.structures import Segment
    from jde_ray.pipelines.video.chunks import decode_segment

    videos = find_videos(sources).videos
    wanted = -(-_PICTURES // len(videos))
    pictures: list[NDArray[np.uint8]] = []
    for video in videos:
        kept: list[NDArray[np.uint8]] = []
        step = number = 0
        for chunk in decode_segment(Segment(video), size=size, resize="fast", chunk_frames=8):
            if chunk.error is not None:
                raise RunError(f"calibration: {video.uri}: {chunk.error}", ExitCode.REFUSED)
            for frame in chunk.frames[: len(chunk.frame_index)]:
                if number % (1 << step) == 0:
                    kept.append(frame.copy())
                number += 1
                if len(kept) == 2 * wanted:  # the length is not known before the end
                    kept, step = kept[::2], step + 1
        places = np.linspace(0, len(kept) - 1, min(wanted, len(kept))).round().astype(int)
        pictures += [kept[place] for place in places]
    return pictures


SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt", "openvino": ".xml"}

if __name__ == "__main__":
    main(export, "export")

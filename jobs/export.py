"""`jde export`: weights of any accepted kind into one file. Also `python -m jobs.export`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.options import parse_size
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.run_flags import one_size
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.models.jde.config import JDEConfig
    from jde_ray.models.jde.network import JDE
    from jde_ray.models.rcnn.config import RcnnConfig
    from jde_ray.models.reid.config import ReidConfig

_PICTURES = 170  # that calibrate 8-bit integers
_PEOPLE = 300  # cut out of frames, that calibrate a re-identification network

Weights = Annotated[
    str,
    typer.Argument(metavar="WEIGHTS", show_default=False, help="Shipped model or path of a file."),
]
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt", "openvino": ".xml"}
Format = Annotated[
    Literal["safetensors", "onnx", "torch", "openvino"] | None,
    typer.Option(
        "--format",
        show_default=False,
        help=r"safetensors and torch are read by --weights again. \[default: by the suffix of "
        "--out, else safetensors]",
    ),
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


@takes(flags=one_size())
def export(
    weights: Weights,
    out: Out,
    kind: Format = None,
    half: Half = False,
    int8: Int8 = False,
    calibration: Calibration = None,
    *,
    flags: Given,
) -> None:
    r"""Write a network's weights to a file; published and Darknet files need --size.

    The ONNX file takes letterboxed RGB images in [0, 1] and returns all boxes and scores before
    NMS, and one embedding map per stride; docs/export.md shows how to use it. Two-stage and
    re-identification networks become ONNX files, which separate networks take. Writing one needs
    two more packages: pip install -e '.\[onnx]'. With --format openvino --int8 a joint network is
    quantised by frames of the calibration sources, for twice to three times the speed on a CPU, and
    a re-identification network by people cut out of them; that needs pip install -e '.\[int8]', and
    '.\[onnx]' for the latter.

    Tracks, not weights, become files of other tools with jde convert; data sets to train on are
    converted by jde data convert.
    """
    by_suffix = next((one for one in SUFFIXES if out.suffix == SUFFIXES[one]), "safetensors")
    written = kind or by_suffix
    _check(out, written, half=half, int8=int8, calibration=calibration)
    from jde_ray.models import cards
    from jde_ray.models.jde import export as onnx_file
    from jde_ray.models.jde import weights as files

    weights = str(cards.REID.find(weights) or weights)
    with _refused(out, written):
        if _export_other(weights, out, written, flags, calibration):
            return
    try:
        wanted = parse_size(flags["size"]) if "size" in flags else None
        model, report = files.load_reported(weights, wanted)
        notes = {k: v for k, v in files.metadata(weights).items() if k != "config"}
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    with _refused(out, written), working(f"writing {out}"):
        if written == "safetensors":
            files.save(model, out, notes, half=half)
        elif written == "torch":
            files.save_torch(model, out, notes)
        elif written == "openvino":
            _quantise(model, out, notes | {"source_sha256": files.sha256(weights)}, calibration)
        else:
            onnx_file.write_onnx(model, out, notes)
    print(f"{weights}: {report}")
    _tell(out, model.config, notes)


def _export_other(
    weights: str, out: Path, kind: str, flags: Given, calibration: list[str] | None
) -> bool:
    """Write the file of a re-identification or two-stage network; False for a joint one.

    Raises:
        RunError: If the weights cannot be used, or not in this format.
        ImportError: If a package is missing.
        OSError: If the file cannot be written.
    """
    from jde_ray.models.jde.weights import metadata, resolve
    from jde_ray.models.rcnn.weights import is_two_stage

    try:
        facts = metadata(weights)
        two_stage = is_two_stage(weights)
        if not two_stage and facts.get("network") != "reid":
            return False
        if kind not in (("onnx",) if two_stage else ("onnx", "openvino")) or "size" in flags:
            of = "two-stage" if two_stage else "re-identification"
            more = "" if two_stage else ", or openvino with --int8 and --calibration,"
            text = f"got a {of} network, expected --format onnx{more} without --size"
            raise RunError(f"format: {text}", ExitCode.REFUSED)
        notes = {key: text for key, text in facts.items() if key != "config"}
        if kind == "openvino":
            config: RcnnConfig | ReidConfig = _quantise_reid(
                resolve(weights), out, notes, calibration or []
            )
        else:
            config = _write_onnx(resolve(weights), out, notes, two_stage=two_stage)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    _tell(out, config, notes)
    return True


@contextmanager
def _refused(out: Path, kind: str) -> Iterator[None]:
    """Refuse to write a file for want of a package, or where it cannot be written."""
    try:
        yield
    except ImportError as error:
        extra = "onnx" if kind == "onnx" or error.name == "onnx" else "int8"
        text = f"{kind} needs the package {error.name}; pip install -e '.[{extra}]'"
        raise RunError(f"format: {text}", ExitCode.REFUSED) from error
    except OSError as error:
        raise RunError(f"out: {out} cannot be written ({error})", ExitCode.REFUSED) from error


def _tell(out: Path, config: JDEConfig | RcnnConfig | ReidConfig, notes: dict[str, str]) -> None:
    """What was written; several weights may share a network, but not a licence."""
    width, height = config.size
    print(f"{out}: network {config.name}, {width}x{height}, {_num_bytes(out) / 1e6:.1f} MB")
    if licence := notes.get("licence"):
        print(f"licence of the weights: {licence}")


def _num_bytes(out: Path) -> int:
    """Bytes of what was written; OpenVINO keeps the weights in a second file."""
    files = {out, out.with_suffix(".bin")} if out.suffix == ".xml" else {out}
    return sum(file.stat().st_size for file in files)


def _write_onnx(
    path: Path, out: Path, notes: dict[str, str], *, two_stage: bool
) -> RcnnConfig | ReidConfig:
    with working(f"writing {out}"):
        if two_stage:
            from jde_ray.models.rcnn import export as two_stage_export
            from jde_ray.models.rcnn.weights import load as load_two_stage

            detector = load_two_stage(path)
            two_stage_export.write_onnx(detector, out, notes)
            return detector.config
        from jde_ray.models.reid import export as reid_export
        from jde_ray.models.reid.weights import load

        embedder = load(path)
        reid_export.write_onnx(embedder, out, notes)
        return embedder.config


def _check(out: Path, kind: str, *, half: bool, int8: bool, calibration: list[str] | None) -> None:
    from jde_ray.models.cards import INT8_SUFFIX

    wanted = INT8_SUFFIX if int8 else SUFFIXES[kind]
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
    from jde_ray.pipelines.sources.sample_frames import sample_frames

    try:
        pictures = sample_frames(sources or [], model.config.size, _PICTURES)
    except ValueError as error:
        raise RunError(f"calibration: {error}", ExitCode.REFUSED) from error
    names = ", ".join(Path(source).name for source in sources or ())
    quantise(model, pictures, out, notes | {"calibration": f"{len(pictures)} frames of {names}"})


def _quantise_reid(path: Path, out: Path, notes: dict[str, str], sources: list[str]) -> ReidConfig:
    import nncf  # noqa: F401 - what `quantise` needs is asked for before people are looked for
    import onnx  # noqa: F401
    import openvino  # noqa: F401

    from jde_ray.models.jde.weights import sha256
    from jde_ray.models.reid.int8 import quantise
    from jde_ray.models.reid.weights import load
    from jde_ray.pipelines.sources.sample_people import sample_people

    model = load(path)
    with working(f"writing {out}"):
        try:
            people = sample_people(sources, model.config.size, _PEOPLE)
        except ValueError as error:
            raise RunError(f"calibration: {error}", ExitCode.REFUSED) from error
        names = ", ".join(Path(source).name for source in sources)
        more = {"calibration": f"{len(people)} people of {names}", "source_sha256": sha256(path)}
        quantise(model, people, out, notes | more)
    return model.config


if __name__ == "__main__":
    main(export, "export")

"""Flags and one YAML file into the frozen configurations, and nothing else.

The dataclasses of `pipelines.config` own names, defaults and limits; a flag only says where its
value goes. A flag wins over the file, the file over the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import CONFIGS as ASSOCIATIONS
from jde_ray.models.tracking.registry import build_config
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError

Values = dict[tuple[str, str], Any]  # (section, field) -> value

# Sections of the YAML file: the configuration whose fields they hold.
SECTIONS: dict[str, type[Any]] = {
    "run": TrackConfig,
    "detection": DetectionConfig,
    "tracking": TrackingConfig,
    "resources": ResourceConfig,
    "outputs": OutputConfig,
}

# Where the value of a flag goes: (section, field). This is the frozen list of settings.
FLAGS: dict[str, tuple[str, str]] = {
    "weights": ("detection", "weights"),
    "size": ("detection", "size"),
    "rect": ("detection", "rect"),
    "association": ("tracking", "association"),
    "conf": ("tracking", "high_score"),
    "nms": ("detection", "nms_threshold"),
    "max_detections": ("detection", "max_detections"),
    "precision": ("detection", "precision"),
    "compile": ("detection", "compile"),
    "resize": ("detection", "resize"),
    "score_map": ("detection", "score_map"),
    "track_buffer": ("tracking", "track_buffer"),
    "min_box_area": ("run", "min_box_area"),
    "vid_stride": ("run", "vid_stride"),
    "max_frames": ("run", "max_frames"),
    "device": ("resources", "device"),
    "chunk_frames": ("resources", "chunk_frames"),
    "num_detectors": ("resources", "num_detectors"),
    "num_associators": ("resources", "num_associators"),
    "num_decoders": ("resources", "num_decoders"),
    "gpus_per_detector": ("resources", "gpus_per_detector"),
    "torch_threads": ("resources", "torch_threads"),
    "address": ("resources", "address"),
    "s3_endpoint": ("resources", "s3_endpoint"),
    "partition": ("resources", "partition"),
    "save_video": ("outputs", "save_video"),
    "save_mot": ("outputs", "save_mot"),
    "save_embeddings": ("outputs", "save_embeddings"),
    "save_detections": ("outputs", "save_detections"),
}

# Names that people know from other tools. The first one is ours.
NAMES: dict[str, tuple[str, ...]] = {
    "size": ("--size", "--imgsz"),
    "conf": ("--conf", "--conf-thres"),
    "nms": ("--nms", "--iou", "--nms-thres"),
    "rect": ("--rect/--no-rect",),
}
_SWITCHES = {flag for flag, names in NAMES.items() if any("/--no-" in name for name in names)}


def _option(
    flag: str, panel: str, text: str, metavar: str | None = None, default: str | None = None
) -> Any:
    section, field = FLAGS[flag]
    value = getattr(SECTIONS[section](), field)
    if isinstance(value, bool):
        metavar = ""  # `<bool>` would invite a value, which is then a source
    default = default or value
    if flag == "size":
        default = "what the weights say"
    shown = "" if default is None or default is False else rf" \[default: {default}]"
    names = NAMES.get(flag, (f"--{flag.replace('_', '-')}",))
    return typer.Option(
        *names, help=text + shown, rich_help_panel=panel, metavar=metavar, show_default=False
    )


_NETWORK, _TRACKS, _OUTPUT, _MACHINE = "Network", "Frames and tracks", "Output", "Machine"
_DATA = "Detections as data"

Weights = Annotated[
    str | None,
    _option("weights", _NETWORK, "Shipped model, weight file, or YAML of ONNX files.", "NAME|PATH"),
]
Size = Annotated[str | None, _option("size", _NETWORK, "Network input in pixels.", "WxH")]
Rect = Annotated[
    bool | None,
    _option(
        "rect",
        _NETWORK,
        "Shape the input like each video, area kept. "
        r"\[default: yes, but not with --size or anchors]",
    ),
]
Conf = Annotated[
    float | None,
    _option(
        "conf",
        _NETWORK,
        "Weaker detections may only extend tracks; jde and bytetrack start one .1 above it.",
        default="0.5 (deepsort 0.3, bytetrack 0.6)",
    ),
]
Nms = Annotated[float | None, _option("nms", _NETWORK, "Overlap (IoU) that two boxes may have.")]
MaxDetections = Annotated[
    int | None, _option("max_detections", _NETWORK, "Highest scores kept in a frame.")
]
Precision = Annotated[
    str | None, _option("precision", _NETWORK, "Arithmetic of the network.", "auto|fp32|bf16")
]
Compile = Annotated[
    bool,
    _option("compile", _NETWORK, "Through torch.compile; pays for large networks in bf16."),
]
Resize = Annotated[
    str | None, _option("resize", _NETWORK, "How frames are scaled.", "fast|published")
]
Association = Annotated[
    str | None,
    _option(
        "association",
        _TRACKS,
        "How detections become tracks; each has defaults of its own.",
        "|".join(ASSOCIATIONS),
    ),
]
TrackBuffer = Annotated[
    int | None,
    _option(
        "track_buffer",
        _TRACKS,
        "Frames a lost track is kept, at 30 frames/s (sort, deepsort: of the video).",
        default="60 (deepsort, bytetrack 30; sort 1)",
    ),
]
MinBoxArea = Annotated[
    float | None, _option("min_box_area", _TRACKS, "Smaller boxes are left out (square pixels).")
]
VidStride = Annotated[int | None, _option("vid_stride", _TRACKS, "Look at every n-th frame.")]
MaxFrames = Annotated[int | None, _option("max_frames", _TRACKS, "Frames looked at in a video.")]
Device = Annotated[str | None, _option("device", _MACHINE, "Of the network.", "auto|cpu|cuda")]
ChunkFrames = Annotated[
    int | None, _option("chunk_frames", _MACHINE, "Frames that travel and are detected together.")
]
NumDetectors = Annotated[
    str | None, _option("num_detectors", _MACHINE, "Networks at once.", "auto|N")
]
NumAssociators = Annotated[
    str | None, _option("num_associators", _MACHINE, "Association actors.", "auto|N")
]
NumDecoders = Annotated[
    str | None, _option("num_decoders", _MACHINE, "Videos decoded at once.", "auto|N")
]
GpusPerDetector = Annotated[
    float | None, _option("gpus_per_detector", _MACHINE, "Share of a GPU that a network takes.")
]
TorchThreads = Annotated[
    int | None, _option("torch_threads", _MACHINE, "CPU threads of a network.")
]
Address = Annotated[
    str | None, _option("address", _MACHINE, "Ray to run on.", "local|auto|HOST:PORT")
]
S3Endpoint = Annotated[
    str | None, _option("s3_endpoint", _MACHINE, "Of an S3 store that is not AWS.", "URL")
]
Partition = Annotated[
    str | None,
    _option("partition", _MACHINE, "Only this share of the videos, for several jobs.", "k/K"),
]
SaveVideo = Annotated[bool, _option("save_video", _OUTPUT, "Videos with the tracks drawn (H.264).")]
SaveMot = Annotated[bool, _option("save_mot", _OUTPUT, "MOTChallenge text files.")]
SaveEmbeddings = Annotated[
    bool, _option("save_embeddings", _OUTPUT, "Appearance vectors beside the boxes of the tracks.")
]
SaveDetections = Annotated[
    bool, _option("save_detections", _OUTPUT, "Detections with embeddings, before association.")
]
ScoreMap = Annotated[
    str | None,
    _option("score_map", _DATA, "Raw scores of MOT text to 0..1.", "auto|none|MIDPOINT/SCALE"),
]
FromDetections = Annotated[
    list[str] | None,
    typer.Option(
        "--from-detections",
        metavar="PATH",
        rich_help_panel=_DATA,
        show_default=False,
        help="Associate saved detections instead of SOURCE: OUT of a run, *.parquet, det.txt, "
        "a MOTChallenge tree, a glob; may be repeated.",
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.yaml", help="Settings; flags win over it.")
]


@dataclass(frozen=True)
class Settings:
    """What a run is told, whole and checked."""

    track: TrackConfig
    resources: ResourceConfig
    outputs: OutputConfig


def collect(flags: dict[str, Any], file: Path | None) -> Values:
    """Values of the file, and over them those of the flags that were given.

    Args:
        flags: By the names of `FLAGS`; None means not given, and so does False, but for flags that
            can be switched off (`--no-rect`).
        file: YAML, see `read_yaml`.

    Raises:
        RunError: If a value cannot be read.
    """
    values = {} if file is None else read_yaml(file)
    for flag, value in flags.items():
        if value is not None and (value is not False or flag in _SWITCHES):
            values |= _value(flag.replace("_", "-"), FLAGS[flag], value)
    return values


def build_settings(values: Values) -> Settings:
    """The frozen configurations.

    Raises:
        RunError: If a value is outside its limits.
    """

    def of(section: str) -> dict[str, Any]:
        return {field: value for (where, field), value in values.items() if where == section}

    try:
        track = TrackConfig(
            detection=DetectionConfig(**of("detection")),
            tracking=build_config(**of("tracking")),
            **of("run"),
        )
        resources = ResourceConfig(**of("resources"))
        return Settings(track, resources, OutputConfig(**of("outputs")))
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error


def read_yaml(path: Path) -> Values:
    """Settings of a file: names of flags, and sections with the fields of a configuration.

    ```yaml
    weights: small
    save-mot: true
    tracking: {appearance_limit: 0.6}
    ```

    Raises:
        RunError: If the file is missing, no YAML mapping, or names an unknown setting.
    """
    from jde_ray.models.settings_file import read_yaml as read_plain

    try:
        content = read_plain(path)
    except ValueError as error:
        raise RunError(f"config: {error}", ExitCode.REFUSED) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RunError(f"config: {path} holds no mapping of settings", ExitCode.REFUSED)
    values: Values = {}
    for key, value in content.items():
        flag = str(key).replace("-", "_")
        if flag in FLAGS:
            values |= _value(str(key), FLAGS[flag], value)
        elif flag in SECTIONS and isinstance(value, dict):
            for field, inner in value.items():
                values |= _value(f"{key}.{field}", (flag, str(field)), inner)
        else:
            accepted = ", ".join([*FLAGS, *SECTIONS]).replace("_", "-")
            raise RunError(
                f"config: {path}: unknown setting {key!r}, expected {accepted}",
                ExitCode.REFUSED,
            )
    return values


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `864x480`; one number is a square.

    >>> parse_size("864x480"), parse_size("640")
    ((864, 480), (640, 640))

    Raises:
        ValueError: If the text is neither.
    """
    sides = text.lower().replace(",", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(f"got {text!r}, expected WIDTHxHEIGHT, such as 576x320")
    return int(sides[0]), int(sides[-1])


def _value(name: str, place: tuple[str, str], value: Any) -> Values:
    """The value with the type of its field; `auto` is what the configuration decides."""
    section, field = place
    if value == "auto" and field.startswith("num_"):
        return {}
    hints = _hints(section)
    settable = hints.keys() - {"detection", "tracking"}
    if field not in settable:
        accepted = ", ".join(sorted(settable))
        raise RunError(f"{name}: no such setting, expected {accepted}", ExitCode.REFUSED)
    try:
        if field == "size" and isinstance(value, str | int):
            return {place: parse_size(str(value))}
        return {place: _typed(hints[field], value)}
    except ValueError as error:
        raise RunError(f"{name}: {error}", ExitCode.REFUSED) from error


def _hints(section: str) -> dict[str, Any]:
    """Types of the settings of a section; those of all associations count in `tracking`."""
    if section != "tracking":
        return get_type_hints(SECTIONS[section])
    hints: dict[str, Any] = {}
    for config in reversed(ASSOCIATIONS.values()):  # of two that differ, ours
        hints |= get_type_hints(config)
    return hints | {"association": str}


def _typed(hint: Any, value: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = (
            error.errors()[0]["msg"].split(", unable")[0].replace("Input should be", "expected")
        )
        raise ValueError(f"got {value!r}, {reason}") from None

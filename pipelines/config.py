"""What a run is told: frozen, checked at construction, and hashed where it changes rows."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import AssociationConfig

VERSION = "0.1.0"  # as in pyproject.toml; a checkout need not be installed
# Raise it when the meaning of a row of tracks/ changes, or of what stands beside it. All of them
# are read; a run goes on in an OUT of its own format only.
#   1  ids with 8 hex digits
#   2  ids with 16 hex digits and the letters of all languages; `num_tracks`, `num_detections` and
#      `video_version` in the metadata, which is the Arrow schema's too; no wide boxes in
#      `mode: published`
ROW_FORMAT = 2

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Resize = Literal["fast", "published"]


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: got {value}, expected {low} to {high}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected {' | '.join(choices)}")


def parse_score_map(text: str) -> tuple[float, float]:
    """Midpoint and scale of `MIDPOINT/SCALE`.

    Raises:
        ValueError: If the text is neither two finite numbers nor a scale above 0.
    """
    parts = text.split("/")
    try:
        midpoint, scale = (float(part) for part in parts)
    except ValueError:
        midpoint, scale = math.nan, 0.0
    if not (math.isfinite(midpoint) and 0 < scale < math.inf):
        raise ValueError(f"score-map: got {text!r}, expected auto | none | MIDPOINT/SCALE")
    return midpoint, scale


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """From a letterboxed frame to boxes, scores and embeddings.

    Attributes:
        weights: Name of a shipped model, path of a weight file, or of a YAML file that declares
            separate networks (`models.sde.declaration`).
        weights_sha256: Fingerprint of what they name, filled in before a run starts.
        size: Width and height in which frames reach the network, in pixels, multiples of 32.
        rect: Give every video an input of its own shape with the area of `size`
            (`models.letterbox.fitted_size`). Not for networks whose anchors belong to a size.
        score_threshold: Detections handed over must score above this. None: the `least_score` of
            the association, which lies below `--conf`; a `TrackConfig` puts it here.
        nms_threshold: Of two boxes overlapping by more IoU than this the lower one goes (`--nms`).
        max_detections: The highest scores kept in a frame; the cap is counted when it bites.
        precision: Arithmetic of the network; `auto` becomes one of the others before a run starts.
        compile: Run the network through `torch.compile`, which takes up to a minute for every new
            shape of input and pays for large networks in bfloat16 (`docs/performance.md`).
        resize: `fast` is one swscale pass, `published` OpenCV's INTER_AREA on the RGB frame.
        score_map: Of detections in MOT text only, how raw scores become shares: `auto`, `none` or
            `MIDPOINT/SCALE` (`pipelines.formats.detections.to_scores`).

    Raises:
        ValueError: If a value is out of range, naming it and what is accepted.
    """

    weights: str = "small"
    weights_sha256: str = ""
    size: tuple[int, int] = (576, 320)
    rect: bool = False
    score_threshold: float | None = None
    nms_threshold: float = 0.4
    max_detections: int = 300
    precision: Precision = "auto"
    compile: bool = False
    resize: Resize = "fast"
    score_map: str = "auto"

    def __post_init__(self) -> None:
        if self.score_threshold is not None:
            _check_range("score_threshold", self.score_threshold, 0.0, 1.0)
        _check_range("nms", self.nms_threshold, 0.0, 1.0)
        _check_range("max-detections", self.max_detections, 1, 10_000)
        _check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        _check_choice("resize", self.resize, ("fast", "published"))
        if self.score_map not in ("auto", "none"):
            parse_score_map(self.score_map)
        if any(side < 32 or side % 32 for side in self.size):
            nearest = "x".join(str(max(32, round(side / 32) * 32)) for side in self.size)
            got = "x".join(map(str, self.size))
            raise ValueError(f"size: got {got}, expected multiples of 32, nearest is {nearest}")

    @property
    def threshold(self) -> float:
        """`score_threshold`; for a network used on its own, what our association looks at."""
        return (
            TrackingConfig().least_score if self.score_threshold is None else self.score_threshold
        )


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """Everything that changes rows of `tracks/`; its hash guards OUT.

    Attributes:
        detection: The network and what is kept of its output. A `score_threshold` of None becomes
            the `least_score` of `tracking` here, and stays that when `replace` changes `tracking`.
        tracking: The association: our own, or another one's settings.
        vid_stride: Every n-th frame is looked at; frame numbers stay the source's.
        max_frames: Frames looked at in a video (after the stride), None for all.
        min_box_area: Tracked boxes smaller than this many square source pixels are left out,
            and counted.
    """

    detection: DetectionConfig = field(default_factory=DetectionConfig)
    tracking: AssociationConfig = field(default_factory=TrackingConfig)
    vid_stride: int = 1
    max_frames: int | None = None
    min_box_area: float = 200.0

    def __post_init__(self) -> None:
        _check_range("vid-stride", self.vid_stride, 1, 10_000)
        _check_range("min-box-area", self.min_box_area, 0.0, 1e9)
        if self.max_frames is not None:
            _check_range("max-frames", self.max_frames, 1, 10**9)
        if self.detection.score_threshold is None:
            settled = replace(self.detection, score_threshold=self.tracking.least_score)
            object.__setattr__(self, "detection", settled)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as `run.json` holds them."""
        return {"row_format": ROW_FORMAT, **json.loads(json.dumps(asdict(self)))}

    def hash(self) -> str:
        """16 hex digits over everything that changes rows. The weights count by content only."""
        values = self.to_dict()
        del values["detection"]["weights"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What is written beside the tracks; rows do not depend on it."""

    save_video: bool = False
    save_mot: bool = False
    save_embeddings: bool = False
    save_detections: bool = False


@dataclass(frozen=True, kw_only=True)
class ResourceConfig:
    """How much of which machine. Of it, `chunk_frames` and `torch_threads` change sums by rounding.

    Attributes:
        device: `auto` takes a GPU where the cluster has one.
        chunk_frames: Frames in a chunk: the batch of the network and the unit of delivery.
        num_detectors: Detector actors, None for one a GPU, or without GPUs as many as the CPUs
            carry beside decoding.
        num_associators: Association actors, None for a number that suits the cluster.
        num_decoders: Decode tasks at once, None for what the CPUs carry beside the detectors.
        gpus_per_detector: GPU share of a detector; 0.25 puts four on one GPU.
        torch_threads: Threads of a detector on the CPU. Fixed, since sums depend on it.
        segment_frames: Frames of a part of a long video; parts are decoded side by side.
        row_bytes: Small chunks go through the dataflow together, up to so many bytes of pixels.
        cut_bytes: Files of fewer bytes are not looked at for cutting, and travel in packs.
        checkpoint_frames: Frames between two checkpoints of a video's association.
        address: `local` starts a Ray of its own; else the address of a cluster.
        s3_endpoint: Of an S3 store that is not AWS; None: what the environment says.
        partition: `k/K`: only the k-th of K shares of the videos, by a hash of their ids.
    """

    device: Device = "auto"
    chunk_frames: int = 16
    num_detectors: int | None = None
    num_associators: int | None = None
    num_decoders: int | None = None
    gpus_per_detector: float = 1.0
    torch_threads: int = 1
    segment_frames: int = 1500
    row_bytes: int = 8 << 20
    cut_bytes: int = 8 << 20
    checkpoint_frames: int = 3000
    address: str = "local"
    s3_endpoint: str | None = None
    partition: str = "1/1"

    def __post_init__(self) -> None:
        _check_choice("device", self.device, ("auto", "cpu", "cuda"))
        _check_range("chunk-frames", self.chunk_frames, 1, 256)
        _check_range("gpus-per-detector", self.gpus_per_detector, 0.01, 8)
        _check_range("threads", self.torch_threads, 1, 256)
        if self.s3_endpoint is not None and not re.match("https?://.", self.s3_endpoint):
            raise ValueError(
                f"s3-endpoint: got {self.s3_endpoint!r}, expected http(s)://HOST[:PORT]"
            )
        part, of = self.share
        if not 1 <= part <= of:
            raise ValueError(f"partition: got {self.partition!r}, expected k/K with 1 <= k <= K")
        _check_range("segment-frames", self.segment_frames, 1, 10**9)
        _check_range("row-bytes", self.row_bytes, 0, 1 << 60)
        _check_range("cut-bytes", self.cut_bytes, 0, 1 << 60)
        _check_range("checkpoint-frames", self.checkpoint_frames, 1, 10**9)
        for name in ("num_detectors", "num_associators", "num_decoders"):
            value = getattr(self, name)
            if value is not None:
                _check_range(name.replace("_", "-"), value, 1, 4096)

    @property
    def share(self) -> tuple[int, int]:
        """The partition as k and K; (0, 0) if it is none."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.partition)
        return (int(found[1]), int(found[2])) if found else (0, 0)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Import paths (`module:name`) of what may be exchanged, found anew in every worker.

    Attributes:
        decode: Generator of frame chunks, called as `pipelines.video.chunks.decode_segment`.
        cut: Parts of a long video, called as `pipelines.video.splitting.cut_segment`.
        frames: Generator of frames in full size, called as `pipelines.video.chunks.read_frames`.
        model: Builder of the model, see `pipelines.detection.networks.FrameModel`.
    """

    decode: str = "jde_ray.pipelines.video.chunks:decode_segment"
    cut: str = "jde_ray.pipelines.video.splitting:cut_segment"
    frames: str = "jde_ray.pipelines.video.chunks:read_frames"
    model: str = "jde_ray.pipelines.detection.networks:load_network"


def find_part(path: str) -> Any:
    """Import what a `module:name` path names.

    Raises:
        ValueError: If there is no such thing.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"part: got {path!r}, expected module:name ({error})") from error

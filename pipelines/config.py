"""Configuration of a run: frozen, checked at construction, and hashed where it affects rows."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from jde_ray.models.cards import DEFAULT_WEIGHTS, JOINT
from jde_ray.models.tracking.config import TrackingConfig, check_range
from jde_ray.models.tracking.registry import AssociationConfig, settled
from jde_ray.pipelines.row_format import ROW_FORMAT
from jde_ray.pipelines.source_pattern import SourcePattern
from jde_ray.pipelines.wall_clock import read_zone

VERSION = "0.1.0"  # as in pyproject.toml; a checkout need not be installed

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
Resize = Literal["fast", "published"]
Blur = Literal["none", "people", "heads"]
PoolSize = int | tuple[int, int]  # so many, or least and most
ReidMode = Literal["always", "needed", "offline"]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected {' | '.join(choices)}")


def pool_limits(size: PoolSize) -> tuple[int, int]:
    """Least and most workers of a pool; equal for a number.

    >>> pool_limits(4), pool_limits((1, 8))
    ((4, 4), (1, 8))
    """
    return size if isinstance(size, tuple) else (size, size)


def parse_score_map(text: str) -> tuple[float, float]:
    """Midpoint and scale of `MIDPOINT/SCALE`.

    Raises:
        ValueError: If the text is not two finite numbers, or the scale is not above 0.
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
    """Settings of detection: from a letterboxed frame to boxes, scores and embeddings.

    Attributes:
        weights: A shipped model, a weight file, or YAML that declares separate networks.
        weights_sha256: Fingerprint of the weights, filled in before a run starts.
        reid: What describes people beside the weights: `colours`, a shipped re-identification
            network or the path of one; `none`; `auto` for what the card of shipped weights says.
        reid_sha256: Fingerprint of that network, filled in before a run starts.
        reid_mode: Which boxes it looks at: `always` all of them, `needed` those of whom the boxes
            alone leave a doubt (`pipelines.detection.second_look`), `offline` none in the run but a
            few of each track in its refinement.
        reid_score: With `needed`, detections below this score are not looked at; `TrackConfig`
            fills in `--conf`, below which no association starts a track or asks for appearance.
        size: Width and height of the network's input in pixels, multiples of 32.
        auto_size: Choose a size for each video, from `size` up (`pipelines.detection.auto_size`).
        rect: Fit the input to the shape of each video, with the area of `size`; not for networks
            whose anchors belong to one size.
        score_threshold: Detections up to this score are dropped. None: the `least_score` of the
            tracker, which lies below `--conf`; `TrackConfig` fills it in.
        nms_threshold: IoU above which NMS drops the lower-scoring of two boxes.
        max_detections: Detections kept per frame, by score; the dropped ones are counted.
        precision: Of the network; `auto` is resolved before a run starts, `int8` is for CPUs.
        compile: Run the network through `torch.compile`: a minute per input shape, for large ones.
        resize: `fast` is one swscale pass, `published` OpenCV's INTER_AREA on the RGB frame.
        score_map: How raw scores in MOT text files become scores from 0 to 1: `auto`, `none` or
            `MIDPOINT/SCALE` (`pipelines.formats.score_map.to_scores`).

    Raises:
        ValueError: If a value is out of range; the message names what is expected.
    """

    weights: str = DEFAULT_WEIGHTS
    weights_sha256: str = ""
    reid: str = "auto"
    reid_sha256: str = ""
    reid_mode: ReidMode = "always"
    reid_score: float = 0.0
    size: tuple[int, int] = (576, 320)
    auto_size: bool = False
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
            check_range("score_threshold", self.score_threshold, 0.0, 1.0)
        check_range("reid_score", self.reid_score, 0.0, 1.0)
        check_range("nms", self.nms_threshold, 0.0, 1.0)
        check_range("max-detections", self.max_detections, 1, 10_000)
        _check_choice("precision", self.precision, ("auto", "fp32", "bf16", "int8"))
        _check_choice("resize", self.resize, ("fast", "published"))
        _check_choice("reid-mode", self.reid_mode, ("always", "needed", "offline"))
        if self.score_map not in ("auto", "none"):
            parse_score_map(self.score_map)
        if any(side < 32 or side % 32 for side in self.size):
            nearest = "x".join(str(max(32, round(side / 32) * 32)) for side in self.size)
            got = "x".join(map(str, self.size))
            raise ValueError(f"size: got {got}, expected multiples of 32, nearest is {nearest}")

    @property
    def second_look(self) -> str:
        """What describes people beside the weights, as `reid`; empty for nothing."""
        if self.reid == "auto":
            return card.second_look if (card := JOINT.card(self.weights)) else ""
        return "" if self.reid == "none" else self.reid

    @property
    def looks_again(self) -> bool:
        """Whether it takes part in detection."""
        return bool(self.second_look) and self.reid_mode != "offline"

    @property
    def threshold(self) -> float:
        """`score_threshold`, or the lowest score that the `jde` tracker uses if it is None."""
        return (
            TrackingConfig().least_score if self.score_threshold is None else self.score_threshold
        )


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """All settings that affect rows of `tracks/`; their hash guards OUT.

    Attributes:
        detection: Network and filters of its output. A `score_threshold` of None becomes the
            `least_score` of `tracking`, and keeps that value when `replace` changes `tracking`;
            `reid_score` likewise becomes its `high_score` where it is needed.
        tracking: Settings of the tracking algorithm.
        vid_stride: Process every n-th frame; frame numbers remain those of the source.
        max_frames: Frames to process per video (after the stride), None for all.
        min_box_area: Tracked boxes smaller than this, in square source pixels, are left out and
            counted.
        camera_motion: Estimate how the camera moves, and move the tracks with the picture; mode
            `published` never does.
    """

    detection: DetectionConfig = field(default_factory=DetectionConfig)
    tracking: AssociationConfig = field(default_factory=TrackingConfig)
    vid_stride: int = 1
    max_frames: int | None = None
    min_box_area: float = 200.0
    camera_motion: bool = True

    def __post_init__(self) -> None:
        check_range("vid-stride", self.vid_stride, 1, 10_000)
        check_range("min-box-area", self.min_box_area, 0.0, 1e9)
        if self.max_frames is not None:
            check_range("max-frames", self.max_frames, 1, 10**9)
        object.__setattr__(self, "tracking", settled(self.tracking))
        if self.detection.score_threshold is None:
            detection = replace(self.detection, score_threshold=self.tracking.least_score)
            object.__setattr__(self, "detection", detection)
        if self.detection.reid_mode == "needed" and not self.detection.reid_score:
            detection = replace(self.detection, reid_score=self.tracking.high_score)
            object.__setattr__(self, "detection", detection)

    @property
    def estimates_motion(self) -> bool:
        """Whether the camera's motion is estimated: not for a tracker that ignores it."""
        return self.camera_motion and getattr(self.tracking, "mode", "default") != "published"

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as stored in `run.json`."""
        return {"row_format": ROW_FORMAT, **json.loads(json.dumps(asdict(self)))}

    def hash(self) -> str:
        """16 hex digits over all settings that affect rows; weights count by content, not name."""
        values = self.to_dict()
        del values["detection"]["weights"], values["detection"]["reid"]
        if "weights_sha256" in values["tracking"]:
            del values["tracking"]["weights"]
        if not self.detection.auto_size:  # earlier versions did not have it
            del values["detection"]["auto_size"]
        if not self.detection.looks_again:
            for name in ("reid_sha256", "reid_mode", "reid_score"):
                del values["detection"][name]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How the camera and the start of a video are read from its source.

    It is no part of the hash that guards OUT, as sources are not: videos of several layouts may
    share an OUT.

    Attributes:
        source_pattern: Pattern of addresses (`pipelines.source_pattern`); None for none.
        timezone: Zone of times without an offset from the pattern or a list: a name such as
            `Europe/Berlin`, or an offset such as `+01:00`.

    Raises:
        ValueError: If the pattern or the zone is not understood.
    """

    source_pattern: str | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        read_zone(self.timezone)
        if self.source_pattern is not None:
            SourcePattern.parse(self.source_pattern)


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """Outputs to write in addition to the tracks; they do not affect rows of whole videos.

    Attributes:
        save_crops: Write pictures of the best few sightings of each track.
        crops_per_track: Pictures per track, at most.
        blur: What of each person drawn videos and crops hide.
        keep_partial: Keep the tracks of a truncated or damaged video up to the damage.
        refine: Refine the tracks after the run, into `refined/` (`pipelines.refinement`).
    """

    save_video: bool = False
    save_crops: bool = False
    crops_per_track: int = 3
    blur: Blur = "none"
    save_mot: bool = False
    save_embeddings: bool = False
    save_detections: bool = False
    keep_partial: bool = False
    refine: bool = False

    def __post_init__(self) -> None:
        check_range("crops-per-track", self.crops_per_track, 1, 100)
        _check_choice("blur", self.blur, ("none", "people", "heads"))

    @property
    def has_pictures(self) -> bool:
        """Whether pictures of people are written, which need the videos' frames."""
        return self.save_video or self.save_crops


@dataclass(frozen=True, kw_only=True)
class ResourceConfig:
    """Resources to use.

    Only `chunk_frames`, `torch_threads` and `graphs` affect results, in the last digits of sums.

    Attributes:
        device: `auto` uses a GPU if the cluster has one.
        chunk_frames: Frames per chunk, the batch of the network and the unit of delivery.
        num_detectors: Detector actors. None: one per GPU, or without GPUs as many as the CPUs
            can run beside decoding, counted when an attempt starts. Least and most: as many of
            them as find a place, also on machines that join later.
        num_associators: Association shards. None: chosen by the size of the cluster.
        num_decoders: Parallel decode tasks. None: as many as the CPUs can run beside detectors.
            Least and most: detectors leave a place for the least.
        gpus_per_detector: GPUs per detector; 0.25 puts four on one GPU.
        torch_threads: CPU threads per detector (`--threads`). Fixed, since sums depend on it.
        graphs: On a GPU, run the network from recorded graphs with two batches in flight
            (`models.jde.gpu`). It was written and tested without a GPU, so it is off by default.
        segment_frames: Frames per segment of a long video; segments are decoded in parallel.
        row_bytes: Small chunks are sent in one row, up to this many bytes of pixels.
        cut_bytes: Files smaller than this are not split, and are processed several per task.
        checkpoint_frames: Frames between two checkpoints of a video's association.
        in_process_frames: Up to so many frames at 576x320 are tracked without Ray; 0: never. None:
            chosen by cores and precision (`pipelines.tracking.small_work`).
        address: `local` starts a private Ray; otherwise the address of a cluster.
        metrics_port: Port of the metrics of the Ray that the run starts; None: any free one.
        s3_endpoint: Endpoint of an S3 store other than AWS. None: taken from the environment.
        partition: `k/K` processes only the k-th of K shares of the videos, by hash of their ids.
    """

    device: Device = "auto"
    chunk_frames: int = 16
    num_detectors: PoolSize | None = None
    num_associators: int | None = None
    num_decoders: PoolSize | None = None
    gpus_per_detector: float = 1.0
    torch_threads: int = 1
    graphs: bool = False
    segment_frames: int = 1500
    row_bytes: int = 8 << 20
    cut_bytes: int = 8 << 20
    checkpoint_frames: int = 3000
    in_process_frames: int | None = None
    address: str = "local"
    metrics_port: int | None = None
    s3_endpoint: str | None = None
    partition: str = "1/1"

    def __post_init__(self) -> None:
        _check_choice("device", self.device, ("auto", "cpu", "cuda"))
        check_range("chunk-frames", self.chunk_frames, 1, 256)
        check_range("gpus-per-detector", self.gpus_per_detector, 0.01, 8)
        check_range("threads", self.torch_threads, 1, 256)
        if self.s3_endpoint is not None and not re.match("https?://.", self.s3_endpoint):
            raise ValueError(
                f"s3-endpoint: got {self.s3_endpoint!r}, expected http(s)://HOST[:PORT]"
            )
        part, of = self.share
        if not 1 <= part <= of:
            raise ValueError(f"partition: got {self.partition!r}, expected k/K with 1 <= k <= K")
        if self.metrics_port is not None:
            check_range("metrics-port", self.metrics_port, 1, 65_535)
        check_range("segment-frames", self.segment_frames, 1, 10**9)
        check_range("row-bytes", self.row_bytes, 0, 1 << 60)
        check_range("cut-bytes", self.cut_bytes, 0, 1 << 60)
        check_range("in-process-frames", self.in_process_frames or 0, 0, 10**9)
        check_range("checkpoint-frames", self.checkpoint_frames, 1, 10**9)
        for name in ("num_detectors", "num_associators", "num_decoders"):
            value, flag = getattr(self, name), name.replace("_", "-")
            if value is None:
                continue
            least, most = pool_limits(value)
            for number in (least, most):
                check_range(flag, number, 1, 4096)
            if least > most:
                raise ValueError(f"{flag}: got {least}-{most}, expected MIN-MAX with MIN <= MAX")

    @property
    def share(self) -> tuple[int, int]:
        """The partition as k and K; (0, 0) if it cannot be parsed."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.partition)
        return (int(found[1]), int(found[2])) if found else (0, 0)

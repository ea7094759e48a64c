"""The flags that set a run: `jde track` takes all of them, other verbs some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jde_ray.jobs.console.flags import Flag
from jde_ray.jobs.console.machine_flags import MACHINE_FLAGS
from jde_ray.jobs.console.messages import ConsoleConfig
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import CONFIGS as ASSOCIATIONS
from jde_ray.models.tracking.registry import AssociationConfig
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    SourceConfig,
    TrackConfig,
)

_NETWORK, _TRACKS, _OUTPUT = "Network", "Frames and tracks", "Output"
_SOURCES = "Cameras and times"
DATA = "Detections as data"
_MESSAGES = "Messages"


def _defaults(setting: Callable[[AssociationConfig], float]) -> str:
    """Default of a setting, and the associations in which it differs: `60 (bytetrack 30)`."""
    usual = setting(TrackingConfig())
    other: dict[float, list[str]] = {}
    for name, config in ASSOCIATIONS.items():
        if (value := setting(config())) != usual:
            other.setdefault(value, []).append(name)
    differing = "; ".join(f"{', '.join(names)} {value}" for value, names in other.items())
    return f"{usual} ({differing})" if differing else f"{usual}"


# Flags by name. This is the frozen list of settings.
FLAGS: dict[str, Flag] = {
    "weights": Flag(
        config=DetectionConfig,
        field="weights",
        panel=_NETWORK,
        text="Name of a shipped model, a weight file, or a YAML file that declares ONNX networks.",
        metavar="NAME|PATH",
    ),
    "reid": Flag(
        config=DetectionConfig,
        field="reid",
        panel=_NETWORK,
        text="Second look at people: `colours`, a shipped re-identification network (jde models), "
        "weights of jde train, an ONNX file, or YAML that declares one. Its vectors are used "
        "beside the weights' own. `auto` is what the card of shipped weights recommends.",
        metavar="NAME|FILE|none",
    ),
    "reid_mode": Flag(
        config=DetectionConfig,
        field="reid_mode",
        panel=_NETWORK,
        text="Which boxes it looks at: all, those of whom the boxes alone leave a doubt, or (with "
        "--refine) a few of each finished track, read from the video again.",
    ),
    "size": Flag(
        config=DetectionConfig,
        field="size",
        panel=_NETWORK,
        text="Input size of the network in pixels; auto: one for each video, larger where the "
        "people in its first frames are small.",
        metavar="WxH|auto",
        default="from the weights",
        aliases=("imgsz",),
    ),
    "rect": Flag(
        config=DetectionConfig,
        field="rect",
        panel=_NETWORK,
        text="Fit the input to the shape of each video, keeping its area.",
        default="yes, but not with --size or anchors",
        switch=True,
    ),
    "conf": Flag(
        config=TrackingConfig,
        field="high_score",
        panel=_NETWORK,
        text="Confidence threshold. Detections below it can extend a track but not start one; jde, "
        "bytetrack and cbiou start tracks at 0.1 above it.",
        default=_defaults(lambda config: config.high_score),
        aliases=("conf-thres",),
    ),
    "nms": Flag(
        config=DetectionConfig,
        field="nms_threshold",
        panel=_NETWORK,
        text="Of two boxes that overlap (IoU) by more than this, drop the lower-scoring one.",
        aliases=("iou", "nms-thres"),
    ),
    "max_detections": Flag(
        config=DetectionConfig,
        field="max_detections",
        panel=_NETWORK,
        text="Most detections to keep per frame, by score.",
    ),
    "precision": Flag(
        config=DetectionConfig,
        field="precision",
        panel=_NETWORK,
        text="Numeric precision of the network.",
    ),
    "compile": Flag(
        config=DetectionConfig,
        field="compile",
        panel=_NETWORK,
        text="Run the network through torch.compile; pays off for large networks in bf16.",
    ),
    "resize": Flag(
        config=DetectionConfig,
        field="resize",
        panel=_NETWORK,
        text="How to scale frames: by swscale (fast) or OpenCV's INTER_AREA (published).",
    ),
    "score_map": Flag(
        config=DetectionConfig,
        field="score_map",
        panel=DATA,
        text="How to map raw scores in MOT text files to 0..1.",
        metavar="auto|none|MIDPOINT/SCALE",
    ),
    "association": Flag(
        config=TrackingConfig,
        field="association",
        panel=_TRACKS,
        text="Tracking algorithm; each has its own defaults.",
        metavar="|".join(ASSOCIATIONS),
    ),
    "track_buffer": Flag(
        config=TrackingConfig,
        field="track_buffer",
        panel=_TRACKS,
        text="How many frames to keep a lost track, counted at 30 frames/s (sort, deepsort, poi, "
        "cnnmtt, tap, ran: at the video's own rate).",
        default=_defaults(lambda config: config.max_lost_frames(30.0)),
    ),
    "min_box_area": Flag(
        config=TrackConfig,
        field="min_box_area",
        panel=_TRACKS,
        text="Leave out tracked boxes smaller than this, in square pixels.",
    ),
    "vid_stride": Flag(
        config=TrackConfig,
        field="vid_stride",
        panel=_TRACKS,
        text="Process every n-th frame.",
    ),
    "max_frames": Flag(
        config=TrackConfig,
        field="max_frames",
        panel=_TRACKS,
        text="Most frames to process per video.",
        default="all",
    ),
    "camera_motion": Flag(
        config=TrackConfig,
        field="camera_motion",
        panel=_TRACKS,
        text="Estimate how the camera moves, and move the tracks with the picture. A camera that "
        "stands still changes nothing.",
        default="yes",
        switch=True,
    ),
    "source_pattern": Flag(
        config=SourceConfig,
        field="source_pattern",
        panel=_SOURCES,
        text="Where camera and start of a video stand in the end of its path or key, such as "
        "'{camera}/{start:%Y%m%dT%H%M%S}'; * stands for anything in a name, ** for any folders.",
        metavar="PATTERN",
        default="columns camera and start of a .csv; else the start from the container",
    ),
    "timezone": Flag(
        config=SourceConfig,
        field="timezone",
        panel=_SOURCES,
        text="Time zone of starts that state none, in a pattern or list: Europe/Berlin, +01:00.",
        metavar="ZONE",
    ),
    "save_video": Flag(
        config=OutputConfig,
        field="save_video",
        panel=_OUTPUT,
        text="Write annotated videos (H.264), with the source's sound if it is AAC, MP3, Opus or "
        "AC-3.",
    ),
    "save_crops": Flag(
        config=OutputConfig,
        field="save_crops",
        panel=_OUTPUT,
        text="Write JPEG pictures of the best few sightings of each track to OUT/crops: large, "
        "clear, and spread over its time.",
    ),
    "crops_per_track": Flag(
        config=OutputConfig,
        field="crops_per_track",
        panel=_OUTPUT,
        text="Most pictures per track of --save-crops.",
    ),
    "blur": Flag(
        config=OutputConfig,
        field="blur",
        panel=_OUTPUT,
        text="Hide people, or only their heads, in annotated videos and crops; also for 20 frames "
        "around each sighting. People who are not found stay visible, and the sound stays.",
    ),
    "save_mot": Flag(
        config=OutputConfig,
        field="save_mot",
        panel=_OUTPUT,
        text="Write MOTChallenge text, named after the videos.",
    ),
    "save_embeddings": Flag(
        config=OutputConfig,
        field="save_embeddings",
        panel=_OUTPUT,
        text="Write the appearance embedding of every tracked box.",
    ),
    "save_detections": Flag(
        config=OutputConfig,
        field="save_detections",
        panel=_OUTPUT,
        text="Write the detections and their embeddings, before association.",
    ),
    "keep_partial": Flag(
        config=OutputConfig,
        field="keep_partial",
        panel=_OUTPUT,
        text="Of a truncated or damaged video keep the tracks up to the damage, marked as partial. "
        "Otherwise it fails. The exit code is 3 in both cases.",
    ),
    "refine": Flag(
        config=OutputConfig,
        field="refine",
        panel=_OUTPUT,
        text="After the run, also write tracks improved by the whole video to OUT/refined: cut and "
        "joined, gaps filled, boxes smoothed. Implies --save-embeddings, since appearance helps.",
    ),
    **MACHINE_FLAGS,
    "progress": Flag(
        config=ConsoleConfig,
        field="progress",
        panel=_MESSAGES,
        text="auto: a bar on a terminal, lines elsewhere. json: one object per line on standard "
        "output, in place of the table.",
    ),
    "quiet": Flag(
        config=ConsoleConfig,
        field="quiet",
        panel=_MESSAGES,
        text="Print errors only.",
    ),
    "log_file": Flag(
        config=ConsoleConfig,
        field="log_file",
        panel=_MESSAGES,
        text="Append messages, progress, results and errors to this file, with the time.",
        metavar="FILE",
    ),
}


def choose(*names: str) -> dict[str, Flag]:
    """Some of `FLAGS`, for verbs that take only those."""
    return {name: FLAGS[name] for name in names}


def one_size() -> dict[str, Flag]:
    """`--size` of verbs that run one network for everything, and so cannot choose it by video."""
    text = "Input size of the network in pixels."
    return {"size": replace(FLAGS["size"], text=text, metavar="WxH")}

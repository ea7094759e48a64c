"""Small work runs in this process: starting Ray takes longer than tracking a short clip.

The rows are the same bytes either way, since the loop in this process has the threads of one
detector.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jde_ray.models.cards import JOINT
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    Precision,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.precision import precision_on
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.output.layout import ERRORS_PREFIX, TRACKS_PREFIX, list_ids
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.containers import opened, promised_frames
from jde_ray.pipelines.video.image_folder import list_images
from jde_ray.pipelines.video.source_file import source_file

MOST_VIDEOS = 8  # whose headers are read to find out
_PIXELS = 576 * 320  # of the network's input, for which `in_process_frames` counts
# Frames that one process tracks with a shipped network while Ray starts, by precision
_WHILE_RAY_STARTS = {"fp32": 130, "bf16": 400, "int8": 400}
_OF_OTHER_NETWORKS = 120  # frames of networks that do not ship
_OF_A_CORE = 0.7  # speed of a core among several that share the work, relative to one alone


def is_small_run(
    videos: Sequence[Video],
    out: str,
    config: TrackConfig,
    resources: ResourceConfig,
    outputs: OutputConfig,
    *,
    overwrite: bool,
    retry_errors: bool,
) -> bool:
    """`is_small` of the videos that a run has left to do, so that a repeated run needs no Ray.

    All count if the run makes pictures, which earlier videos may lack, or OUT is in a store, whose
    listing the run repeats.

    Args:
        videos: All videos of the run.
        out: OUT.
        config: As for `is_small`.
        resources: As for `is_small`.
        outputs: What is written beside tracks.
        overwrite: Whether committed videos are tracked again.
        retry_errors: Whether failed videos are.
    """
    if overwrite or outputs.has_pictures or "://" in out:
        return is_small(videos, config, resources)
    try:
        store = open_store(out)
    except ValueError:
        return False  # the run refuses it in its own words
    done = list_ids(store, TRACKS_PREFIX)
    if not retry_errors:
        done |= list_ids(store, ERRORS_PREFIX)
    left = [video for video in videos if video.video_id not in done]
    if left or not videos:
        return is_small(left, config, resources)
    return may_stay(resources) and resources.in_process_frames != 0


def is_small(videos: Sequence[Video], config: TrackConfig, resources: ResourceConfig) -> bool:
    """Whether these videos are tracked sooner in this process than on a Ray that it would start.

    Not if the caller names a Ray, sizes its pools or wants its metrics, this process has joined
    one, a video's length is not known, or a video is in a store.

    Args:
        videos: Videos to track; the headers of up to `MOST_VIDEOS` are read.
        config: Size of the network's input, stride and frame limit.
        resources: `in_process_frames`, the address and the pools.
    """
    if not 0 < len(videos) <= MOST_VIDEOS or not may_stay(resources):
        return False
    return frames_left(videos, config, resources) >= 0


def may_stay(resources: ResourceConfig) -> bool:
    """Whether the caller leaves it to us whether work runs in this process."""
    pools = (resources.num_detectors, resources.num_decoders, resources.num_associators)
    if resources.address != "local" or resources.metrics_port is not None:
        return False
    return all(size is None for size in pools) and not _has_joined_ray()


def frames_left(videos: Sequence[Video], config: TrackConfig, resources: ResourceConfig) -> float:
    """Frames that would still be small work beside these videos; negative if they are not.

    Args:
        videos: Videos whose headers are read.
        config: Size of the network's input, stride and frame limit.
        resources: `in_process_frames`.
    """
    (width, height), most = config.detection.size, resources.in_process_frames
    if most is None:
        most = _most_frames_of(config.detection, resources)
    left = most * _PIXELS / (width * height)
    for video in videos:
        frames = _count_frames(video) if left >= 1 else None
        if frames is None:
            return -1.0
        frames = -(-frames // config.vid_stride)
        left -= frames if config.max_frames is None else min(frames, config.max_frames)
    return left


def _most_frames_of(detection: DetectionConfig, resources: ResourceConfig) -> int:
    if JOINT.find(detection.weights) is None:  # of an own network the speed is not known
        return _OF_OTHER_NETWORKS
    precision = precision_on(resources.device, detection.precision)
    return most_frames(len(os.sched_getaffinity(0)), precision)


def most_frames(cores: int, precision: Precision) -> int:
    """Frames that one process tracks as soon as a Ray that starts and then shares them would.

    Args:
        cores: Cores of this machine.
        precision: Of the network, not `auto`.

    >>> most_frames(2, "bf16"), most_frames(2, "fp32"), most_frames(64, "fp32")
    (1400, 455, 132)
    """
    faster = _OF_A_CORE * max(cores, 2)  # one core alone would never need Ray
    return int(_WHILE_RAY_STARTS[precision] * faster / (faster - 1))


def _has_joined_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _count_frames(video: Video) -> int | None:
    """Frames of a video as its header states them; None if that is not known here."""
    if "://" in video.uri:
        return None
    try:
        if video.is_image_folder:
            return len(list_images(video.uri)) or None
        with source_file(video.uri, video.version) as file, opened(file, video) as source:
            return promised_frames(source) or None
    except (VideoError, OSError):
        return 0  # the run finds that at once, and says what is wrong

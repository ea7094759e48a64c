"""A run in one call, with the names and defaults of `jde track`: `from jde_ray import track`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

from jde_ray.models.cards import DEFAULT_WEIGHTS
from jde_ray.models.tracking.registry import build_config
from jde_ray.pipelines.config import (
    Blur,
    Device,
    OutputConfig,
    ResourceConfig,
    SourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.discovery import Sources, find_videos
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.tracking.small_work import is_small_run
from jde_ray.pipelines.tracking.tally import Progress


def track(
    sources: Sources,
    out: str | os.PathLike[str],
    weights: str | os.PathLike[str] = DEFAULT_WEIGHTS,
    *,
    size: tuple[int, int] | Literal["auto"] | None = None,
    association: str = "jde",
    conf: float | None = None,
    max_frames: int | None = None,
    source_pattern: str | None = None,
    timezone: str = "UTC",
    device: Device = "auto",
    address: str = "local",
    save_video: bool = False,
    save_crops: bool = False,
    blur: Blur = "none",
    save_mot: bool = False,
    save_embeddings: bool = False,
    save_detections: bool = False,
    overwrite: bool = False,
    retry_errors: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Track people in all videos of `sources`, continuing where an earlier run stopped.

    For every other setting build a `TrackConfig` and call `pipelines.tracking.offline.track`.

    Args:
        sources: A file, folder, glob or list, or several of them.
        out: Folder or `s3://` prefix; `out/tracks/*.parquet` is the result.
        weights: Name of a shipped network, a weight file, or a YAML file of ONNX networks.
        size: Width and height of the network's input in pixels; None for the size of the weights;
            `auto` for one per video, larger where the people in its first frames are small.
        association: Tracking algorithm, a key of `models.tracking.registry.ASSOCIATIONS`.
        conf: Confidence threshold in [0, 1]; None for the association's own.
        max_frames: Frames to track in each video; None for all.
        source_pattern: Where camera and start stand in the end of an address, such as
            `{camera}/{start:%Y%m%dT%H%M%S}`; None: as lists and containers say.
        timezone: Time zone of starts that state none, such as `Europe/Berlin`.
        device: Device that the network runs on; `auto` uses a GPU if there is one.
        address: Ray to run on: `local`, `auto` or `HOST:PORT`. A few frames are tracked without
            one, unless it is named here (`pipelines.tracking.small_work`).
        save_video: Write videos with the tracks drawn.
        save_crops: Write pictures of the best three sightings of each track.
        blur: What of each person drawn videos and crops hide: `none`, `people` or `heads`.
        save_mot: Write MOTChallenge text files.
        save_embeddings: Write the appearance vectors of the tracks.
        save_detections: Write detections and their embeddings.
        overwrite: Track committed videos again.
        retry_errors: Track failed videos again.
        progress: Called with every receipt.

    Returns:
        Counts, errors and times of the run; `exit_code` says how it ended.

    Raises:
        RunError: If the run is refused before any work, or cannot continue.
    """
    try:
        settings = {} if conf is None else {"high_score": conf}
        tracking = build_config(association, **settings)
        is_auto = size == "auto"
        detection = detection_for(
            os.fspath(weights), None if size == "auto" else size, auto_size=is_auto
        )
        config = TrackConfig(detection=detection, tracking=tracking, max_frames=max_frames)
        resources = ResourceConfig(device=device, address=address)
        naming = SourceConfig(source_pattern=source_pattern, timezone=timezone)
        outputs = OutputConfig(
            save_video=save_video,
            save_crops=save_crops,
            blur=blur,
            save_mot=save_mot,
            save_embeddings=save_embeddings,
            save_detections=save_detections,
        )
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    found = find_videos(sources, naming)
    out = os.fspath(out)
    is_here = is_small_run(
        found.videos,
        out,
        config,
        resources,
        outputs,
        overwrite=overwrite,
        retry_errors=retry_errors,
    )
    return (reference.track if is_here else offline.track)(
        found,
        out,
        config,
        resources=resources,
        outputs=outputs,
        overwrite=overwrite,
        retry_errors=retry_errors,
        progress=progress,
    )

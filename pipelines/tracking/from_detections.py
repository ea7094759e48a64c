"""Tracks from saved detections: the dataflow of `offline` without decoding and without a network.

    segments --> read, deliver --> receipts
                      |
                      +--> association shards --> tracks/<video_id>.parquet

The shards, sessions and commits are those of `offline`: the detections that a run saved become the
same bytes as the tracks of that run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import ray
from ray.data import DataContext, Dataset, TaskPoolStrategy

from jde_ray.models.tracking.registry import check_embedder
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    ResourceConfig,
    TrackConfig,
    pool_limits,
)
from jde_ray.pipelines.detection.weights import embedder_sha256
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.detections import SavedVideo
from jde_ray.pipelines.output.layout import RUN_KEY
from jde_ray.pipelines.output.run_record import frame_limits, parse_record
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.saved_detections import run_folder
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.tracking.run import Attempt, Run
from jde_ray.pipelines.tracking.stages.read import read_rows, saved_to_row
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient
from jde_ray.pipelines.tracking.streaming import streaming_context
from jde_ray.pipelines.tracking.tally import Progress

_READER_BYTES = 256 << 20


def track(
    saved: Sequence[SavedVideo],
    out: str,
    config: TrackConfig,
    *,
    resources: ResourceConfig = ResourceConfig(),
    outputs: OutputConfig = OutputConfig(),
    overwrite: bool = False,
    retry_errors: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Associate saved detections again, continuing where an earlier run stopped.

    Args:
        saved: Detections of all videos, from `find_saved`.
        out: Folder or `s3://` prefix of the run.
        config: The association, with the network of the detections, from `resolve_settings`.
        resources: Pools and Ray's address.
        outputs: Files to write in addition to the tracks, except pictures.
        overwrite: Track committed videos again.
        retry_errors: Track failed videos again.
        progress: Called with every receipt.

    Returns:
        Counts, errors and times of the run; `exit_code` says how it ended.

    Raises:
        RunError: If the run is refused before any work, or cannot continue.
    """
    started = time.perf_counter()
    configure(resources.s3_endpoint)
    if outputs.has_pictures:
        flag = "save-video" if outputs.save_video else "save-crops"
        raise RunError(f"{flag}: not from detections, which have no frames", ExitCode.REFUSED)
    run = Run(
        out,
        config,
        ([one.video for one in saved], []),
        resources,
        outputs,
        started=started,
        overwrite=overwrite,
        retry_errors=retry_errors,
        progress=progress,
    )
    if run.needs_ray:
        places = {one.video.video_id: one for one in saved}
        with run.on_ray(replace(resources, device="cpu")) as attempts:
            for attempt in attempts:
                run.execute(attempt, build(attempt, places, config, resources))
    return run.finish()


def resolve_settings(
    config: TrackConfig, saved: Sequence[SavedVideo], least: float | None = None
) -> TrackConfig:
    """The configuration completed by that of the detections' run, so that both have one hash.

    The camera counts as standing if its motion is unknown for one of the videos.

    Args:
        config: Sets the association; network and decoding are those of the detections.
        saved: All videos of the run.
        least: Lowest score of the detections to read; None for the association's lowest.

    Raises:
        RunError: If the detections come from runs that differ, were saved with another stride or
            frame limit than requested, or their network is not the one from which the association
            has learned.
    """
    least = config.tracking.least_score if least is None else least
    is_known = all(one.has_motion or one.frames is not None for one in saved)
    config = replace(config, camera_motion=config.camera_motion and is_known)
    folders = {one: run_folder(one) for one in saved}
    known = {folder: _record(folder) for folder in sorted(set(filter(None, folders.values())))}
    records = {folder: record for folder, record in known.items() if record is not None}
    # without a `run.json` each is a separate place, since nothing shows that they belong together
    unknown = [
        "MOT text" if one.is_text else f"{one.root}/{one.key}"
        for one, folder in folders.items()
        if folder not in records
    ]
    if not records:  # MOT text, or Parquet on its own: the network is unknown
        names = {one.key.rpartition("/")[2] if one.is_text else "detections" for one in saved}
        detection = DetectionConfig(
            weights=min(names) if len(names) == 1 else "detections",
            reid="none",
            precision="fp32",
            score_threshold=least,
            score_map=config.detection.score_map,
        )
        return replace(config, detection=detection)
    folder, first = next(iter(records.items()))
    others = [other for other, record in records.items() if record != first]
    if others or unknown:
        second = [*others, *unknown][0]
        told = "" if others or second == "MOT text" else " (without a run.json)"
        raise RunError(
            f"from-detections: {folder} and {second}{told} come from different detectors or"
            " settings; name one",
            ExitCode.REFUSED,
        )
    detection = _detection(first["detection"])
    threshold = max(detection.threshold, least)
    values = {name: _frames(name, first[name], getattr(config, name)) for name in _FRAME_LIMITS}
    config = replace(config, detection=replace(detection, score_threshold=threshold), **values)
    try:
        check_embedder(config.tracking, embedder_sha256(config.detection))
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    return config


_FRAME_LIMITS = {"vid_stride": 1, "max_frames": None}


def _frames(name: str, recorded: Any, wanted: Any) -> Any:
    """Stride or frame limit: as recorded, or as wanted if all frames were saved."""
    if wanted in (_FRAME_LIMITS[name], recorded):
        return recorded
    if recorded == _FRAME_LIMITS[name]:
        return wanted
    flag = name.replace("_", "-")
    raise RunError(
        f"{flag}: got {wanted}, expected {recorded}, with which the detections were saved",
        ExitCode.REFUSED,
    )


def _record(out: str) -> dict[str, Any] | None:
    """The settings of a run that affect its detections; None without a `run.json`."""
    try:
        config = parse_record(open_store(out).get(RUN_KEY))["config"]
        record = {name: config[name] for name in ("detection", *_FRAME_LIMITS)}
        _detection(record["detection"])
        frame_limits(record)
        return record
    except FileNotFoundError:
        return None
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"from-detections: {out}/run.json cannot be read ({error})", ExitCode.REFUSED
        ) from error


def _detection(values: Mapping[str, Any]) -> DetectionConfig:
    """The settings of the network in `run.json`.

    Raises:
        ValueError: If a value has a wrong type or is out of range.
    """
    own, settings = DetectionConfig(), dict[str, Any]()
    own = replace(own, score_threshold=own.threshold)  # a run has resolved it
    for one in fields(DetectionConfig):
        value, usual = values.get(one.name, getattr(own, one.name)), getattr(own, one.name)
        if one.name == "size":
            value = tuple(value)
            is_right = [type(side) for side in value] == [int, int]
        else:
            is_right = type(value) is type(usual) or (type(usual), type(value)) == (float, int)
        if not is_right:
            raise ValueError(f"{one.name}: got {value!r}, expected a value like {usual!r}")
        settings[one.name] = value
    return DetectionConfig(**settings)


def build(
    attempt: Attempt,
    places: Mapping[str, SavedVideo],
    config: TrackConfig,
    resources: ResourceConfig,
) -> Dataset:
    """Wire the one stage; nothing runs until the receipts are read.

    Args:
        attempt: Segments, one per video, pools, and the id of the association shards.
        places: Saved detections by video id.
        config: Settings that affect rows.
        resources: Frames per chunk.

    Returns:
        One receipt per chunk, as in `offline.build`.
    """
    shards = ShardClient(attempt.attempt_id, attempt.pools.num_shards)
    readers = resources.num_decoders
    rows = [saved_to_row(one, places[one.video.video_id]) for one in attempt.segments]
    with DataContext.current(streaming_context()):
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(read_rows, config, resources, shards),
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(None if readers is None else pool_limits(readers)[1]),
            num_cpus=attempt.pools.decoder_cpus,
            memory=_READER_BYTES,
        )

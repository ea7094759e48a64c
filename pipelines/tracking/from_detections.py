"""Tracks from saved detections: the dataflow of `offline` without decoding and without a network.

    segments --> read, deliver --> receipts
                      |
                      +--> association shards --> tracks/<video_id>.parquet

The shards, sessions and commits are those of `offline`: the detections that a run saved become the
same bytes as the tracks of that run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, TaskPoolStrategy

from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.formats.detections import (
    SavedFrame,
    SavedVideo,
    read_damage,
    read_saved,
)
from jde_ray.pipelines.output.layout import RUN_KEY
from jde_ray.pipelines.output.run_record import parse_record
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.saved_detections import run_folder
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Decoded, DetectionChunk, Segment, VideoInfo
from jde_ray.pipelines.tracking.attempts import Progress
from jde_ray.pipelines.tracking.run import Attempt, Run
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient
from jde_ray.pipelines.tracking.stalls import streaming_context

logger = logging.getLogger(__name__)

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
        outputs: Files to write in addition to the tracks, except drawn videos.
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
    if outputs.save_video:
        raise RunError("save-video: not from detections, which have no frames", ExitCode.REFUSED)
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

    Args:
        config: Sets the association; network and decoding are those of the detections.
        saved: All videos of the run.
        least: Lowest score of the detections to read; None for the association's lowest.

    Raises:
        RunError: If the detections come from runs that differ, or were saved with another stride
            or frame limit than requested.
    """
    least = config.tracking.least_score if least is None else least
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
    return replace(config, detection=replace(detection, score_threshold=threshold), **values)


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
        _check_limits(record)
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


def _check_limits(record: Mapping[str, Any]) -> None:
    """Refuse a stride or frame limit of a wrong type or out of range (ValueError)."""
    for name in _FRAME_LIMITS:
        if record[name] is not None and type(record[name]) is not int:
            raise ValueError(f"{name}: got {record[name]!r}, expected a number")
    TrackConfig(**{name: record[name] for name in _FRAME_LIMITS})


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
    rows = []
    for segment in attempt.segments:
        place = places[segment.video.video_id]
        rows.append(wire_format.segments_to_row([segment]) | {"root": place.root, "key": place.key})
    with DataContext.current(streaming_context()):
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(read_rows, config, resources, shards),
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(resources.num_decoders),
            num_cpus=attempt.pools.decoder_cpus,
            memory=_READER_BYTES,
        )


def read_rows(
    config: TrackConfig,
    resources: ResourceConfig,
    shards: ShardClient,
    table: pa.Table,
) -> Iterator[pa.Table]:
    """Read the detections of one video and deliver them to its shard; yields a receipt per chunk.

    The shard gives up on a video that keeps killing its reader, as in `decode_rows`.
    """
    (segment,) = wire_format.segments_from_table(table)
    root, key = (table.column(name)[0].as_py() for name in ("root", "key"))
    saved = SavedVideo(segment.video, root, key)
    video_id = segment.video.video_id
    grant = shards.begin_decode(segment)
    if not grant.go:
        for _ in range(grant.num_chunks + 1):
            yield wire_format.receipt([], [], 0)
        return
    started, num_chunks = time.perf_counter(), 0
    for chunk in saved_chunks(saved, segment, config, resources.chunk_frames):
        read_s = time.perf_counter() - started
        verdict = shards.deliver(chunk)
        num_chunks += 1
        shards.decoded([Decoded(video_id, segment.start_frame, num_chunks, False)])
        num_detections = sum(len(found) for found in chunk.detections)
        yield wire_format.receipt([chunk], [verdict], num_detections, decode_s=read_s)
        started = time.perf_counter()
    shards.decoded([Decoded(video_id, segment.start_frame, num_chunks, True)])


def saved_chunks(
    saved: SavedVideo, segment: Segment, config: TrackConfig, chunk_frames: int
) -> Iterator[DetectionChunk]:
    """Chunks of a video's detections, as a detector would deliver them.

    Never raises: an error is the last chunk, as in `pipelines.video.chunks.decode_segment`; so is
    the damage at which the detections of a partial video end.

    Args:
        saved: Place of the detections.
        segment: Video, attempt, and the first frame that is not associated yet.
        config: Stride, frame limit, lowest score and score map.
        chunk_frames: T, the frames per chunk; the last one may have fewer.
    """
    number = segment.start_frame // (chunk_frames * config.vid_stride)
    try:
        info, frames = read_saved(saved, config)
        damage = read_damage(saved)
        batch: list[SavedFrame] = []
        count = 0
        for frame in frames:
            count += 1
            if frame[0] < segment.start_frame:
                continue
            if len(batch) == chunk_frames:
                yield _chunk(segment, number, info, batch, is_last=False)
                number, batch = number + 1, []
            batch.append(frame)
        is_partial = bool(damage) and count != config.max_frames
        yield _chunk(segment, number, info, batch, is_last=not is_partial)
        if is_partial:
            error = VideoError.of_text(damage)
            end = _chunk(segment, number + 1, info, [], is_last=True, error=error)
            yield replace(end, is_partial=True)
    except Exception as error:  # noqa: BLE001  the contract: an error is a row, never an end
        yield _chunk(segment, number, VideoInfo(0, 0, 0.0), [], is_last=True, error=_known(error))


def _chunk(
    segment: Segment,
    number: int,
    info: VideoInfo,
    frames: list[SavedFrame],
    *,
    is_last: bool,
    error: VideoError | None = None,
) -> DetectionChunk:
    return DetectionChunk(
        video_id=segment.video.video_id,
        attempt=segment.attempt,
        chunk_index=number,
        frame_index=np.array([index for index, _, _ in frames], np.int64),
        time_s=np.array([time_s for _, time_s, _ in frames], np.float64),
        info=info,
        is_last=is_last,
        detections=[found for _, _, found in frames],
        error=error,
    )


def _known(error: Exception) -> VideoError:
    """The error for the video's error record."""
    if isinstance(error, VideoError):
        return error
    if isinstance(error, FileNotFoundError):
        return VideoError(Reason.NOT_FOUND, str(error))
    if isinstance(error, ValueError | pa.ArrowException):  # ArrowInvalid is both
        return VideoError(Reason.UNSUPPORTED_FORMAT, str(error))
    if isinstance(error, OSError):
        return VideoError(Reason.STORAGE, str(error))
    logger.error("reading detections failed", exc_info=error)
    return VideoError(Reason.INTERNAL, f"{type(error).__name__}: {error}")

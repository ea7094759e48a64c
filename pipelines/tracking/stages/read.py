"""The read stage: saved detections in, delivered to the video's association shard."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.detections import SavedFrame, SavedVideo, read_damage, read_saved
from jde_ray.pipelines.structures import Decoded, DetectionChunk, Segment, VideoInfo
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient
from jde_ray.pipelines.video.motion_of_frames import with_motion

logger = logging.getLogger(__name__)


def saved_to_row(segment: Segment, saved: SavedVideo) -> dict[str, Any]:
    """An input row of the dataset: a segment, and the place of its detections."""
    frames = None if saved.frames is None else wire_format.video_to_dict(saved.frames)
    place = {"root": saved.root, "key": saved.key, "frames": json.dumps(frames)}
    return wire_format.segments_to_row([segment]) | place


def _saved_of(segment: Segment, table: pa.Table) -> SavedVideo:
    root, key, frames = (table.column(name)[0].as_py() for name in ("root", "key", "frames"))
    values = json.loads(frames)
    beside = None if values is None else wire_format.video_from_dict(values)
    return SavedVideo(segment.video, root, key, frames=beside)


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
    saved = _saved_of(segment, table)
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
        config: Stride, frame limit, lowest score, score map; whether motion is estimated.
        chunk_frames: T, the frames per chunk; the last one may have fewer.
    """
    number = segment.start_frame // (chunk_frames * config.vid_stride)
    try:
        info, frames = read_saved(saved, config)
        damage = read_damage(saved)
        batch: list[SavedFrame] = []
        count = 0
        if saved.frames is not None and config.estimates_motion:
            frames = with_motion(frames, saved, info, segment.start_frame, config)
        for frame in frames:
            count += 1
            if frame.frame < segment.start_frame:
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
    motions = [frame.camera_motion for frame in frames]
    known = [motion for motion in motions if motion is not None]
    return DetectionChunk(
        video_id=segment.video.video_id,
        attempt=segment.attempt,
        chunk_index=number,
        frame_index=np.array([frame.frame for frame in frames], np.int64),
        time_s=np.array([frame.time_s for frame in frames], np.float64),
        info=info,
        is_last=is_last,
        detections=[frame.found for frame in frames],
        camera_motion=np.stack(known) if known and len(known) == len(motions) else None,
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

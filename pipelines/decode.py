"""The decode stage inside the dataflow: one segment in, its chunks out, one row each."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines import wire
from pipelines.config import ResourceConfig, TrackConfig, find_part
from pipelines.delivery import Owners
from pipelines.errors import Reason, VideoError
from pipelines.schema import FrameChunk, Segment, VideoInfo
from pipelines.storage import configure

MOST_AHEAD = 16  # parts of a video that may wait on disk for an earlier one


def frame_chunks(
    decode: str, segment: Segment, config: TrackConfig, resources: ResourceConfig
) -> Iterator[FrameChunk]:
    """Chunks of a segment by the decoder of that import path."""
    chunks: Iterator[FrameChunk] = find_part(decode)(
        segment,
        size=config.detection.size,
        rect=config.detection.rect,
        resize=config.detection.resize,
        chunk_frames=resources.chunk_frames,
        vid_stride=config.vid_stride,
        max_frames=config.max_frames,
    )
    return chunks


def decode_rows(
    decode: str,
    config: TrackConfig,
    resources: ResourceConfig,
    pass_id: str,
    num_shards: int,
    table: pa.Table,
) -> Iterator[pa.Table]:
    """Decode a row's segments, telling the videos' owners how far each has come.

    Ray repeats a task whose worker died, without end. The owner counts: a segment that keeps
    killing its decoder gives error rows instead, at least as many as there were chunks, since a
    replay must not be shorter than what was read of it.

    Args:
        decode: Import path of the decoder.
        config: What changes rows.
        resources: Frames in a chunk.
        pass_id: Of the pass, to find the video's owner.
        num_shards: How many owners there are.
        table: One row with segments.
    """
    configure(resources.s3_endpoint)
    owners = Owners(pass_id, num_shards)
    for segment in wire.segments_from_table(table):
        yield from _decode_one(decode, config, resources, owners, segment)


def _decode_one(
    decode: str,
    config: TrackConfig,
    resources: ResourceConfig,
    owners: Owners,
    segment: Segment,
) -> Iterator[pa.Table]:
    step = chunk_step(config, resources)
    first_chunk = segment.start_frame // step
    if first_chunk:
        owners.await_turn(segment, first_chunk, MOST_AHEAD * resources.segment_frames // step)
    refused = owners.begin_decode(segment)
    if refused is not None:
        for index in range(refused + 1):
            yield wire.frames_to_table(_nothing(segment, first_chunk + index))
        return
    started, num_chunks = time.perf_counter(), 0
    for chunk in frame_chunks(decode, segment, config, resources):
        num_chunks += 1
        owners.decoded(segment, num_chunks, ended=False)
        yield wire.frames_to_table(chunk, time.perf_counter() - started)
        started = time.perf_counter()  # what the dataflow made it wait is not decoding
    owners.decoded(segment, num_chunks, ended=True)


def cut_rows(
    cut: str, config: TrackConfig, resources: ResourceConfig, table: pa.Table
) -> Iterator[pa.Table]:
    """Part a long video: one row with its segment in, a row for each of its parts out.

    Args:
        cut: Import path of what finds the parts.
        config: What changes rows.
        resources: Frames in a chunk and in a part.
        table: One row with segments; several short videos stay together.
    """
    configure(resources.s3_endpoint)
    segments = wire.segments_from_table(table)
    if len(segments) == 1 and is_cut(segments[0], resources):
        step = chunk_step(config, resources)
        limit = None if config.max_frames is None else config.max_frames * config.vid_stride
        frames = resources.segment_frames
        parts = find_part(cut)(segments[0], segment_frames=frames, step=step, max_frames=limit)
        for part in parts:
            yield pa.Table.from_pylist([wire.segments_to_row([part])])
        return
    yield table


def chunk_step(config: TrackConfig, resources: ResourceConfig) -> int:
    """Source frames that a chunk covers."""
    return resources.chunk_frames * config.vid_stride


def is_cut(segment: Segment, resources: ResourceConfig) -> bool:
    """Whether it is worth a look if this video can be parted, by its size alone."""
    size = segment.video.num_bytes
    return segment.may_cut and (size == 0 or size >= resources.cut_bytes)


def _nothing(segment: Segment, index: int) -> FrameChunk:
    return FrameChunk(
        video_id=segment.video.video_id,
        attempt=segment.attempt,
        chunk_index=index,
        frame_index=np.zeros(0, np.int64),
        time_s=np.zeros(0),
        frames=np.zeros((0, 1, 1, 3), np.uint8),
        info=VideoInfo(0, 0, 0.0),
        is_last=True,
        error=VideoError(Reason.WORKER_DIED, "decoding was given up"),
    )

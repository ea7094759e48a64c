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
    """Decode one segment, telling the video's owner how far it has come.

    Ray repeats a task whose worker died, without end. The owner counts: a video that keeps killing
    its decoder gives error rows instead, at least as many as there were chunks, since a replay
    must not be shorter than what was read of it.

    Args:
        decode: Import path of the decoder.
        config: What changes rows.
        resources: Frames in a chunk.
        pass_id: Of the pass, to find the video's owner.
        num_shards: How many owners there are.
        table: One row with the segment.
    """
    segment = wire.segment_from_table(table)
    video_id = segment.video.video_id
    owners = Owners(pass_id, num_shards)
    refused = owners.begin_decode(video_id, segment.attempt)
    if refused is not None:
        for index in range(refused + 1):
            yield wire.frames_to_table(_nothing(segment, index))
        return
    started, last = time.perf_counter(), None
    for chunk in frame_chunks(decode, segment, config, resources):
        last = chunk
        owners.decoded(video_id, chunk.chunk_index + 1, ended=False)
        yield wire.frames_to_table(chunk, time.perf_counter() - started)
        started = time.perf_counter()  # what the dataflow made it wait is not decoding
    owners.decoded(video_id, 0 if last is None else last.chunk_index + 1, ended=True)


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

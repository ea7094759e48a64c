"""The decode stage inside the dataflow: one segment in, its chunks out, one row each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.auto_size import LARGEST_SCALE
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.structures import Decoded, FrameChunk, Segment, VideoInfo
from jde_ray.pipelines.tracking.stages import wire_format

if TYPE_CHECKING:
    from jde_ray.pipelines.tracking.stages.shard_client import ShardClient

MOST_AHEAD = 16  # segments of a video that may wait on disk for an earlier one
_MOST_CHUNKS = 64  # per row

Decoder = Callable[..., Iterator[FrameChunk]]  # called as `pipelines.video.chunks.decode_segment`
Splitter = Callable[..., list[Segment]]  # called as `pipelines.video.splitting.split_segment`


def frame_chunks(
    decode: Decoder,
    segment: Segment,
    config: TrackConfig,
    resources: ResourceConfig,
) -> Iterator[FrameChunk]:
    """Chunks of a segment, decoded with the settings of a run.

    Args:
        decode: Called as `pipelines.video.chunks.decode_segment`.
        segment: The frames to decode.
        config: Input size, resizing, stride and frame limit; whether motion is estimated.
        resources: Frames per chunk.
    """
    size, rect = config.detection.size, config.detection.rect
    if segment.chosen is not None:  # fitted already
        size, rect = segment.chosen.size, False
    return decode(
        segment,
        size=size,
        rect=rect,
        resize=config.detection.resize,
        chunk_frames=resources.chunk_frames,
        vid_stride=config.vid_stride,
        max_frames=config.max_frames,
        camera_motion=config.estimates_motion,
    )


def decode_rows(
    decode: Decoder,
    config: TrackConfig,
    resources: ResourceConfig,
    shards: ShardClient,
    table: pa.Table,
) -> Iterator[pa.Table]:
    """Decode a row's segments, and report the progress of each to the association shards.

    Ray retries a task whose worker died indefinitely. The shard counts the tries: a segment that
    keeps killing its decoder becomes error chunks instead, at least as many as there were chunks,
    since a replay must not be shorter than the part already read. For the same reason the number of
    chunks per row depends only on the configuration.

    Args:
        decode: Called as `pipelines.video.chunks.decode_segment`.
        config: Settings that affect rows.
        resources: Frames per chunk, bytes per row.
        shards: The association shards, which receive progress and refuse suspicious segments.
        table: One row with segments.

    Yields:
        Tables of one row, see `wire_format.FRAME_SCHEMA`.
    """
    configure(resources.s3_endpoint)
    segments = wire_format.segments_from_table(table)
    step = chunk_step(config, resources)
    row = _Row(shards, chunks_in_row(config, resources, len(segments)))
    grants = shards.begin_decode_all(segments) if len(segments) > 1 else None
    for place, segment in enumerate(segments):
        first_chunk = segment.start_frame // step
        if first_chunk:
            ahead = MOST_AHEAD * resources.segment_frames // step
            shards.await_turn(segment, first_chunk, ahead)
        grant = shards.begin_decode(segment) if grants is None else grants[place]
        chunks: Iterable[FrameChunk]
        if grant.go:
            chunks = frame_chunks(decode, segment, config, resources)
        else:
            count = grant.num_chunks + 1
            chunks = (_nothing(segment, first_chunk + index) for index in range(count))
        yield from row.fill(segment, chunks, is_reported=grant.go)
        if grants is None:  # one by one, to find the segment that kills its worker
            row.report()
    yield from row.flush()


class _Row:
    """Chunks of the next row, and the progress to report before that row can be read.

    Args:
        shards: The association shards, which receive progress.
        most: Chunks per row.
    """

    def __init__(self, shards: ShardClient, most: int) -> None:
        self.shards, self._most = shards, most
        self._chunks: list[FrameChunk] = []
        self._progress: dict[str, Decoded] = {}
        self._seconds = 0.0

    def fill(
        self, segment: Segment, chunks: Iterable[FrameChunk], *, is_reported: bool
    ) -> Iterator[pa.Table]:
        """Add the chunks of a segment; yield every full row."""
        place = (segment.video.video_id, segment.start_frame)
        started, num_chunks = time.perf_counter(), 0
        for chunk in chunks:
            self._seconds += time.perf_counter() - started
            self._chunks.append(chunk)
            num_chunks += 1
            if is_reported:
                self._progress[segment.video.video_id] = Decoded(*place, num_chunks, False)
            if len(self._chunks) == self._most:
                yield self._take()
            started = time.perf_counter()  # exclude the time that the dataflow made it wait
        if is_reported:
            self._progress[segment.video.video_id] = Decoded(*place, num_chunks, True)

    def flush(self) -> Iterator[pa.Table]:
        """Yield the last row, if chunks are left."""
        if self._chunks:
            yield self._take()
        self.report()

    def report(self) -> None:
        """Report the progress of decoding to the shards now."""
        self.shards.decoded(self._progress.values())
        self._progress.clear()

    def _take(self) -> pa.Table:
        self.report()
        table = wire_format.frames_to_table(self._chunks, self._seconds)
        self._chunks, self._seconds = [], 0.0
        return table


def chunks_in_row(config: TrackConfig, resources: ResourceConfig, num_segments: int) -> int:
    """Number of chunks per row: several if they are small.

    Up to some megabytes the cost of a row does not depend on its size. Rows of a large archive, in
    which short videos share a task, may be larger, since all workers have work there. If sizes are
    chosen, the largest counts.
    """
    width, height = config.detection.size
    num_bytes = 3 * width * height * resources.chunk_frames
    if config.detection.auto_size:
        num_bytes = round(num_bytes * LARGEST_SCALE**2)
    limit = resources.row_bytes * (4 if num_segments > 1 else 1)
    return max(1, min(_MOST_CHUNKS, limit // num_bytes))


def cut_rows(
    split: Splitter,
    config: TrackConfig,
    resources: ResourceConfig,
    table: pa.Table,
) -> Iterator[pa.Table]:
    """Split a long video: takes one row with its segment, yields one row per part.

    Args:
        split: Called as `pipelines.video.splitting.split_segment`.
        config: Settings that affect rows.
        resources: Frames per chunk and per part.
        table: One row with segments; several short videos stay together.

    Yields:
        Tables of one row with segments.
    """
    configure(resources.s3_endpoint)
    segments = wire_format.segments_from_table(table)
    if len(segments) == 1 and is_cut(segments[0], resources):
        step = chunk_step(config, resources)
        limit = None if config.max_frames is None else config.max_frames * config.vid_stride
        frames = resources.segment_frames
        # the motion at a part's first frame needs the frame taken before
        lead = config.vid_stride if config.estimates_motion else 0
        parts = split(segments[0], segment_frames=frames, step=step, max_frames=limit, lead=lead)
        for part in parts:
            yield pa.Table.from_pylist([wire_format.segments_to_row([part])])
        return
    yield table


def chunk_step(config: TrackConfig, resources: ResourceConfig) -> int:
    """Source frames per chunk, including those that the stride skips."""
    return resources.chunk_frames * config.vid_stride


def is_cut(segment: Segment, resources: ResourceConfig) -> bool:
    """Whether this video is large enough to try to split it; its file is not opened."""
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

"""The decode stage inside the dataflow: one segment in, its chunks out, one row each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.structures import Decoded, FrameChunk, Segment, VideoInfo
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient

MOST_AHEAD = 16  # parts of a video that may wait on disk for an earlier one
_MOST_CHUNKS = 16  # in a row

Decoder = Callable[..., Iterator[FrameChunk]]  # called as `pipelines.video.chunks.decode_segment`
Splitter = Callable[..., list[Segment]]  # called as `pipelines.video.splitting.cut_segment`


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
        config: Input size, resizing, stride and frame limit.
        resources: Frames per chunk.
    """
    return decode(
        segment,
        size=config.detection.size,
        rect=config.detection.rect,
        resize=config.detection.resize,
        chunk_frames=resources.chunk_frames,
        vid_stride=config.vid_stride,
        max_frames=config.max_frames,
    )


def decode_rows(
    decode: Decoder,
    config: TrackConfig,
    resources: ResourceConfig,
    attempt_id: str,
    num_shards: int,
    table: pa.Table,
) -> Iterator[pa.Table]:
    """Decode a row's segments, telling the videos' owners how far each has come.

    Ray repeats a task whose worker died, without end. The owner counts: a segment that keeps
    killing its decoder gives error chunks instead, at least as many as there were chunks, since a
    replay must not be shorter than what was read of it. A row holds a number of chunks that
    depends on the configuration only, for the same reason.

    Args:
        decode: Called as `pipelines.video.chunks.decode_segment`.
        config: What changes rows.
        resources: Frames in a chunk, bytes in a row.
        attempt_id: Of the pass, to find the video's owner.
        num_shards: How many owners there are.
        table: One row with segments.
    """
    configure(resources.s3_endpoint)
    segments = wire_format.segments_from_table(table)
    step = chunk_step(config, resources)
    row = _Row(ShardClient(attempt_id, num_shards), chunks_in_row(config, resources, len(segments)))
    answers = row.owners.begin_decode_all(segments) if len(segments) > 1 else None
    for place, segment in enumerate(segments):
        first_chunk = segment.start_frame // step
        if first_chunk:
            ahead = MOST_AHEAD * resources.segment_frames // step
            row.owners.await_turn(segment, first_chunk, ahead)
        refused = row.owners.begin_decode(segment) if answers is None else answers[place]
        chunks: Iterable[FrameChunk]
        if refused is not None:
            chunks = (_nothing(segment, first_chunk + index) for index in range(refused + 1))
        else:
            chunks = frame_chunks(decode, segment, config, resources)
        yield from row.fill(segment, chunks, is_told=refused is None)
        if answers is None:  # one by one, so that it is known which one ends its worker
            row.tell()
    yield from row.rest()


class _Row:
    """Chunks on their way into a row, and what their owners have to know before it can be read.

    Args:
        owners: Who is told.
        most: Chunks in a row.
    """

    def __init__(self, owners: ShardClient, most: int) -> None:
        self.owners, self._most = owners, most
        self._chunks: list[FrameChunk] = []
        self._progress: dict[str, Decoded] = {}
        self._seconds = 0.0

    def fill(
        self, segment: Segment, chunks: Iterable[FrameChunk], *, is_told: bool
    ) -> Iterator[pa.Table]:
        """Rows that are full while the chunks of a segment come in."""
        place = (segment.video.video_id, segment.start_frame)
        started, num_chunks = time.perf_counter(), 0
        for chunk in chunks:
            self._seconds += time.perf_counter() - started
            self._chunks.append(chunk)
            num_chunks += 1
            if is_told:
                self._progress[segment.video.video_id] = Decoded(*place, num_chunks, False)
            if len(self._chunks) == self._most:
                yield self._take()
            started = time.perf_counter()  # what the dataflow made it wait is not decoding
        if is_told:
            self._progress[segment.video.video_id] = Decoded(*place, num_chunks, True)

    def rest(self) -> Iterator[pa.Table]:
        """The last row, if there is anything left for it."""
        if self._chunks:
            yield self._take()
        self.tell()

    def tell(self) -> None:
        """Tell the owners now how far decoding has come."""
        self.owners.decoded(self._progress.values())
        self._progress.clear()

    def _take(self) -> pa.Table:
        self.tell()
        table = wire_format.frames_to_table(self._chunks, self._seconds)
        self._chunks, self._seconds = [], 0.0
        return table


def chunks_in_row(config: TrackConfig, resources: ResourceConfig, num_segments: int) -> int:
    """Chunks that travel as one row: several where they are small.

    What a row costs does not depend on its size, until it is some megabytes. A row of a large
    archive, in which short videos share a task, may be larger: there all workers have work.
    """
    width, height = config.detection.size
    num_bytes = 3 * width * height * resources.chunk_frames
    limit = resources.row_bytes * (4 if num_segments > 1 else 1)
    return max(1, min(_MOST_CHUNKS, limit // num_bytes))


def cut_rows(
    split: Splitter,
    config: TrackConfig,
    resources: ResourceConfig,
    table: pa.Table,
) -> Iterator[pa.Table]:
    """Part a long video: one row with its segment in, a row for each of its parts out.

    Args:
        split: Called as `pipelines.video.splitting.cut_segment`.
        config: What changes rows.
        resources: Frames in a chunk and in a part.
        table: One row with segments; several short videos stay together.
    """
    configure(resources.s3_endpoint)
    segments = wire_format.segments_from_table(table)
    if len(segments) == 1 and is_cut(segments[0], resources):
        step = chunk_step(config, resources)
        limit = None if config.max_frames is None else config.max_frames * config.vid_stride
        frames = resources.segment_frames
        parts = split(segments[0], segment_frames=frames, step=step, max_frames=limit)
        for part in parts:
            yield pa.Table.from_pylist([wire_format.segments_to_row([part])])
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

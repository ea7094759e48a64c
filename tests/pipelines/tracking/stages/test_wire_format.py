from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from jde_ray.models.structures import Detections
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import (
    ChosenSize,
    DetectionChunk,
    FrameChunk,
    Segment,
    Verdict,
    Video,
    VideoInfo,
)
from jde_ray.pipelines.tracking.stages import wire_format

INFO = VideoInfo(1920, 1080, 30000 / 1001)


def frames(num_frames: int = 3, error: VideoError | None = None) -> FrameChunk:
    pixels = np.arange(4 * 6 * 8 * 3, dtype=np.uint8).reshape(4, 6, 8, 3)
    index = np.arange(5, 5 + num_frames)
    return FrameChunk("v-1", 2, 7, index, index / 29.97, pixels, INFO, True, error)


def test_frames_come_back_equal_and_uncopied() -> None:
    chunk = frames()
    table = wire_format.frames_to_table([chunk], 0.25)
    assert table.num_rows == 1
    assert table["frames"].chunk(0).buffers()[2].address == chunk.frames.ctypes.data
    (back,), seconds = wire_format.frames_from_table(table)
    assert seconds == 0.25
    assert np.shares_memory(back.frames, chunk.frames)
    for name in ("frames", "frame_index", "time_s"):
        assert np.array_equal(getattr(back, name), getattr(chunk, name))
    for name in ("video_id", "attempt", "chunk_index", "info", "is_last", "error"):
        assert getattr(back, name) == getattr(chunk, name)


def test_a_chunk_with_an_error_is_a_row_of_the_same_schema() -> None:
    error = VideoError(Reason.TRUNCATED, "ends early", 12)
    table = wire_format.frames_to_table([frames(0, error)])
    assert table.schema == wire_format.FRAME_SCHEMA
    (back,), _ = wire_format.frames_from_table(table)
    assert str(back.error) == "truncated: ends early (frame 12)"
    assert len(back.frame_index) == 0


def test_small_chunks_share_a_row() -> None:
    error = VideoError(Reason.TRUNCATED, "ends early", 12)
    empty = replace(frames(0, error), frames=np.zeros((0, 1, 1, 3), np.uint8))
    chunks = [frames(), empty, replace(frames(4), frames=255 - frames().frames, video_id="w-2")]
    back, seconds = wire_format.frames_from_table(wire_format.frames_to_table(chunks, 1.5))
    assert seconds == 1.5
    assert [chunk.video_id for chunk in back] == ["v-1", "v-1", "w-2"]
    assert [str(chunk.error) for chunk in back] == ["None", str(error), "None"]
    for one, other in zip(back, chunks, strict=True):
        for name in ("frames", "frame_index", "time_s"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_cameras_motion_comes_back_whoever_shares_the_row() -> None:
    moving = replace(frames(3), camera_motion=np.random.default_rng(0).normal(0, 1, (3, 2, 3)))
    chunks = [frames(2), moving, replace(frames(0)), moving]
    back, _ = wire_format.frames_from_table(wire_format.frames_to_table(chunks))
    assert [chunk.camera_motion is None for chunk in back] == [True, False, True, False]
    for chunk in back[1::2]:
        assert chunk.camera_motion.tobytes() == moving.camera_motion.tobytes()
    found = [Detections.empty(8)] * 3
    place = ("v-1", 0, 3, moving.frame_index, moving.time_s, INFO, False, found)
    for motion in (moving.camera_motion, None):
        packed = wire_format.load(
            wire_format.dump(DetectionChunk(*place, camera_motion=motion))
        ).camera_motion
        assert (packed is None) == (motion is None)
        assert motion is None or packed.tobytes() == motion.tobytes()


def test_a_receipt_tells_which_videos_have_arrived() -> None:
    chunks = [replace(frames(), video_id=name, is_last=name != "b") for name in "abcdef"]
    answers = [
        Verdict.TAKEN,
        Verdict.TAKEN,
        Verdict.STALE,
        Verdict.HALTED,
        Verdict.ENDED,
        Verdict.LOST,
    ]
    (row,) = wire_format.receipt(chunks, answers, 7, decode_s=0.5).to_pylist()
    assert row["arrived"] == ["a", "e"]
    assert (row["is_halted"], row["num_chunks"], row["num_frames"]) == (True, 6, 18)
    assert row["begun"] == ["a", "b", "e", "f"]  # f's owner died over it
    assert row["promised"] == []
    told = [replace(chunk, info=replace(chunk.info, num_frames=9)) for chunk in chunks[:2]]
    (row,) = wire_format.receipt(told, answers[:2], 7).to_pylist()
    assert row["promised"] == [("a", 9), ("b", 9)]
    (nothing,) = wire_format.receipt([], [], 0).to_pylist()
    assert (nothing["arrived"], nothing["is_halted"]) == ([], False)


def test_a_batch_is_one_row() -> None:
    table = wire_format.frames_to_table([frames()])
    with pytest.raises(ValueError, match="got 2 rows"):
        wire_format.frames_from_table(pa.concat_tables([table, table]))


@pytest.mark.parametrize("counts", [[2, 0, 5], [0, 0, 0], []])
@pytest.mark.parametrize("spooled", [True, False])
@pytest.mark.parametrize("tells", [True, False])
def test_detections_come_back_equal(counts: list[int], spooled: bool, tells: bool) -> None:
    rng = np.random.default_rng(0)
    found = [
        Detections(
            rng.random((n, 4), np.float32),
            rng.random(n, np.float32),
            rng.random((n, 8)).astype(np.float16),
            rng.random(n, np.float32) if tells else None,
        )
        for n in counts
    ]
    index = np.arange(len(counts))
    values = ("v-1", 0, 3, index, index / 25, INFO, False, found, 4)
    chunk = DetectionChunk(*values, decode_whole=True, num_crops=7)
    back = (
        wire_format.load(wire_format.dump(chunk))
        if spooled
        else wire_format.unpack(wire_format.pack(chunk))
    )
    assert (back.num_capped, back.info, back.is_last, back.chunk_index) == (4, INFO, False, 3)
    assert back.decode_whole
    assert back.num_crops == 7
    assert len(back.detections) == len(counts)
    for a, b in zip(back.detections, found, strict=True):
        assert np.array_equal(a.tlbr, b.tlbr)
        assert np.array_equal(a.scores, b.scores)
        assert np.array_equal(a.embeddings, b.embeddings)
        assert a.embeddings.dtype == np.float16
        assert (a.quality is not None) == tells
        assert not tells or np.array_equal(a.quality, b.quality)


def test_a_segment_comes_back_equal() -> None:
    segment = Segment(Video("/a/ü.mp4", "ü", frames_per_second=12.5), 2)
    table = pa.Table.from_pylist([wire_format.segments_to_row([segment])])
    assert wire_format.segments_from_table(table) == [segment]


def test_a_chosen_size_comes_back_equal() -> None:
    segment = Segment(Video("/a/b.mp4", "b"), chosen=ChosenSize((960, 544), "people are far"))
    table = pa.Table.from_pylist([wire_format.segments_to_row([segment])])
    assert wire_format.segments_from_table(table) == [segment]


def test_camera_and_start_come_back_equal() -> None:
    start = datetime(2024, 5, 1, 9, 30, 0, 250_001, UTC)
    video = Video("/a/b.mp4", "b", num_bytes=7, version="v", camera="T\u00fcr", start=start)
    table = pa.Table.from_pylist([wire_format.segments_to_row([Segment(video)])])
    (segment,) = wire_format.segments_from_table(table)
    assert asdict(segment.video) == asdict(video)
    info = VideoInfo(1920, 1080, 25.0, 9, 1_714_555_800_250_001)
    table = wire_format.frames_to_table([replace(frames(), info=info)])
    (chunk,), _ = wire_format.frames_from_table(table)
    assert vars(chunk.info) == vars(info)

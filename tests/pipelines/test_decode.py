from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pyarrow as pa
import pytest
from fakes import Script

from pipelines import decode, wire
from pipelines.config import ResourceConfig
from pipelines.errors import Reason
from pipelines.schema import FrameChunk, Segment, Video


class Ledger:
    """Owners that note how far decoding came."""

    refused: int | None = None

    def __init__(self, *_: object) -> None:
        self.said: list[tuple[int, bool]] = []
        Ledger.last = self

    def begin_decode(self, segment: Segment) -> int | None:
        return self.refused

    def decoded(self, segment: Segment, num_chunks: int, *, ended: bool) -> None:
        self.said.append((num_chunks, ended))

    def await_turn(self, segment: Segment, first_chunk: int, most_ahead: int) -> None:
        self.waited = (first_chunk, most_ahead)


def rows(tmp_path: Path, **part: int) -> list[FrameChunk]:
    video = Video(Script(frames=20).write(tmp_path, "a"), "a")
    segment = Segment(video, attempt=1, **part)
    tables = decode.decode_rows(
        "fakes:decode",
        fakes.CONFIG,
        ResourceConfig(chunk_frames=8),
        "pass",
        1,
        pa.Table.from_pylist([wire.segments_to_row([segment])]),
    )
    return [wire.frames_from_table(table)[0] for table in tables]


def test_a_segment_becomes_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "Owners", Ledger)
    chunks = rows(tmp_path)
    assert [chunk.chunk_index for chunk in chunks] == [0, 1, 2]
    assert [chunk.attempt for chunk in chunks] == [1, 1, 1]
    assert np.concatenate([chunk.frame_index for chunk in chunks]).tolist() == list(range(20))
    assert Ledger.last.said == [(1, False), (2, False), (3, False), (3, True)]


def test_a_part_of_a_video_waits_for_its_turn_and_numbers_chunks_over_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "Owners", Ledger)
    chunks = rows(tmp_path, start_frame=8)
    assert [chunk.chunk_index for chunk in chunks] == [1, 2]
    assert np.concatenate([chunk.frame_index for chunk in chunks]).tolist() == list(range(8, 20))
    assert Ledger.last.waited == (1, decode.MOST_AHEAD * ResourceConfig().segment_frames // 8)
    monkeypatch.setattr(Ledger, "refused", 0)
    (nothing,) = rows(tmp_path, start_frame=8)
    assert (nothing.chunk_index, nothing.is_last) == (1, True)


def test_a_long_video_becomes_a_row_a_part_and_a_short_one_stays(tmp_path: Path) -> None:
    video = Video(Script(frames=40).write(tmp_path, "a"), "a", num_bytes=10_000)

    def cut(segments: list[Segment], cut_bytes: int) -> list[list[Segment]]:
        table = pa.Table.from_pylist([wire.segments_to_row(segments)])
        resources = ResourceConfig(chunk_frames=8, segment_frames=10, cut_bytes=cut_bytes)
        rows = decode.cut_rows("fakes:cut", fakes.CONFIG, resources, table)
        return [wire.segments_from_table(row) for row in rows]

    starts = [[s.start_frame for s in row] for row in cut([Segment(video)], 10_000)]
    assert starts == [[0], [16], [32]]
    assert cut([Segment(video)], 10_001) == [[Segment(video)]]
    whole = Segment(video, may_cut=False)
    assert cut([whole], 0) == [[whole]]
    assert cut([Segment(video)] * 3, 0) == [[Segment(video)] * 3]


def test_a_video_given_up_is_not_decoded_and_no_shorter_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "Owners", Ledger)
    monkeypatch.setattr(Ledger, "refused", 4)
    chunks = rows(tmp_path)
    assert len(chunks) == 5
    assert all(c.error is not None and c.error.reason is Reason.WORKER_DIED for c in chunks)
    assert Ledger.last.said == []

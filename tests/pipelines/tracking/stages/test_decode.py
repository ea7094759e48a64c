from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import fakes
import numpy as np
import pyarrow as pa
import pytest
from fakes import Script

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.structures import Decoded, DecodeGrant, FrameChunk, Segment, Video
from jde_ray.pipelines.tracking.stages import decode, wire_format


class Ledger:
    """A client that notes how far decoding came."""

    grant = DecodeGrant(go=True)
    is_suspicious = False  # a worker has died over such a pack

    def __init__(self) -> None:
        self.said: list[tuple[str, int, bool]] = []
        self.begun: list[str] = []
        Ledger.last = self

    def begin_decode(self, segment: Segment) -> DecodeGrant:
        self.begun.append(segment.video.name)
        return self.grant

    def begin_decode_all(self, segments: list[Segment]) -> list[DecodeGrant] | None:
        self.begun.append("".join(segment.video.name for segment in segments))
        return None if self.is_suspicious else [self.grant] * len(segments)

    def decoded(self, progress: Iterable[Decoded]) -> None:
        self.said += [(one.video_id[0], one.num_chunks, one.has_ended) for one in progress]

    def await_turn(self, segment: Segment, first_chunk: int, most_ahead: int) -> None:
        self.waited = (first_chunk, most_ahead)


def tables(segments: list[Segment], row_bytes: int) -> list[list[FrameChunk]]:
    found = decode.decode_rows(
        fakes.decode,
        fakes.CONFIG,
        ResourceConfig(chunk_frames=8, row_bytes=row_bytes),
        Ledger(),
        pa.Table.from_pylist([wire_format.segments_to_row(segments)]),
    )
    return [wire_format.frames_from_table(table)[0] for table in found]


def segment_of(tmp_path: Path, name: str, frames: int = 20, **part: int) -> Segment:
    video = Video(Script(frames=frames).write(tmp_path, name), name)
    return Segment(video, attempt=1, **part)


def rows(tmp_path: Path, **part: int) -> list[FrameChunk]:
    return [chunk for (chunk,) in tables([segment_of(tmp_path, "a", **part)], 0)]


def test_a_segment_becomes_its_chunks(tmp_path: Path) -> None:
    chunks = rows(tmp_path)
    assert [chunk.chunk_index for chunk in chunks] == [0, 1, 2]
    assert [chunk.attempt for chunk in chunks] == [1, 1, 1]
    assert np.concatenate([chunk.frame_index for chunk in chunks]).tolist() == list(range(20))
    assert Ledger.last.said == [("a", 1, False), ("a", 2, False), ("a", 3, False), ("a", 3, True)]


CHUNK_BYTES = 8 * 3 * fakes.SIZE[0] * fakes.SIZE[1]


def test_small_chunks_travel_together(tmp_path: Path) -> None:
    """Rows are of equal length, across the videos of a pack too; owners know before they leave."""
    one = tables([segment_of(tmp_path, "a", 36)], 2 * CHUNK_BYTES)
    assert [[chunk.chunk_index for chunk in row] for row in one] == [[0, 1], [2, 3], [4]]
    assert Ledger.last.said == [("a", 2, False), ("a", 4, False), ("a", 5, True)]
    pack = [segment_of(tmp_path, name) for name in "abc"]  # of three chunks each
    many = tables(pack, CHUNK_BYTES)
    assert [[chunk.video_id[0] for chunk in row] for row in many] == [
        list("aaab"),
        list("bbcc"),
        ["c"],
    ]
    assert Ledger.last.begun == ["abc"]
    ended = [name for name, _, has_ended in Ledger.last.said if has_ended]
    assert ended == ["a", "b", "c"]


def test_a_pack_over_which_a_worker_died_is_begun_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every video is told to have ended before the next one begins; rows are the same ones."""
    monkeypatch.setattr(Ledger, "is_suspicious", True)
    many = tables([segment_of(tmp_path, name) for name in "abc"], CHUNK_BYTES)
    assert [len(row) for row in many] == [4, 4, 1]
    assert Ledger.last.begun == ["abc", "a", "b", "c"]
    assert Ledger.last.said[0] == ("a", 3, True)
    monkeypatch.setattr(Ledger, "grant", DecodeGrant(go=False, num_chunks=2))
    many = tables([segment_of(tmp_path, name) for name in "abc"], CHUNK_BYTES)
    assert [len(row) for row in many] == [4, 4, 1]


def test_a_part_of_a_video_waits_for_its_turn_and_numbers_chunks_over_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = rows(tmp_path, start_frame=8)
    assert [chunk.chunk_index for chunk in chunks] == [1, 2]
    assert np.concatenate([chunk.frame_index for chunk in chunks]).tolist() == list(range(8, 20))
    assert Ledger.last.waited == (1, decode.MOST_AHEAD * ResourceConfig().segment_frames // 8)
    monkeypatch.setattr(Ledger, "grant", DecodeGrant(go=False, num_chunks=0))
    (nothing,) = rows(tmp_path, start_frame=8)
    assert (nothing.chunk_index, nothing.is_last) == (1, True)


def test_a_long_video_becomes_a_row_a_part_and_a_short_one_stays(tmp_path: Path) -> None:
    video = Video(Script(frames=40).write(tmp_path, "a"), "a", num_bytes=10_000)

    def cut(segments: list[Segment], cut_bytes: int) -> list[list[Segment]]:
        table = pa.Table.from_pylist([wire_format.segments_to_row(segments)])
        resources = ResourceConfig(chunk_frames=8, segment_frames=10, cut_bytes=cut_bytes)
        rows = decode.cut_rows(fakes.split, fakes.CONFIG, resources, table)
        return [wire_format.segments_from_table(row) for row in rows]

    starts = [[s.start_frame for s in row] for row in cut([Segment(video)], 10_000)]
    assert starts == [[0], [16], [32]]
    assert cut([Segment(video)], 10_001) == [[Segment(video)]]
    whole = Segment(video, may_cut=False)
    assert cut([whole], 0) == [[whole]]
    assert cut([Segment(video)] * 3, 0) == [[Segment(video)] * 3]


def test_a_video_given_up_is_not_decoded_and_no_shorter_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "grant", DecodeGrant(go=False, num_chunks=4))
    chunks = rows(tmp_path)
    assert len(chunks) == 5
    assert all(c.error is not None and c.error.reason is Reason.WORKER_DIED for c in chunks)
    assert Ledger.last.said == []

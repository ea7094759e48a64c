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

    def begin_decode(self, video_id: str, attempt: int) -> int | None:
        return self.refused

    def decoded(self, video_id: str, num_chunks: int, *, ended: bool) -> None:
        self.said.append((num_chunks, ended))


def rows(tmp_path: Path) -> list[FrameChunk]:
    segment = Segment(Video(Script(frames=20).write(tmp_path, "a"), "a"), attempt=1)
    tables = decode.decode_rows(
        "fakes:decode",
        fakes.CONFIG,
        ResourceConfig(chunk_frames=8),
        "pass",
        1,
        pa.Table.from_pylist([wire.segment_to_row(segment)]),
    )
    return [wire.frames_from_table(table)[0] for table in tables]


def test_a_segment_becomes_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "Owners", Ledger)
    chunks = rows(tmp_path)
    assert [chunk.chunk_index for chunk in chunks] == [0, 1, 2]
    assert [chunk.attempt for chunk in chunks] == [1, 1, 1]
    assert np.concatenate([chunk.frame_index for chunk in chunks]).tolist() == list(range(20))
    assert Ledger.last.said == [(1, False), (2, False), (3, False), (3, True)]


def test_a_video_given_up_is_not_decoded_and_no_shorter_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "Owners", Ledger)
    monkeypatch.setattr(Ledger, "refused", 4)
    chunks = rows(tmp_path)
    assert len(chunks) == 5
    assert all(c.error is not None and c.error.reason is Reason.WORKER_DIED for c in chunks)
    assert Ledger.last.said == []

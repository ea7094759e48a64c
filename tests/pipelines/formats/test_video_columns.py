"""The columns that say which camera saw a row, when and whom, in both kinds of files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.models.structures import Detections, Tracks
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.formats.detections import SavedFrame
from jde_ray.pipelines.formats.video_columns import (
    TEXT,
    clock_times,
    numbers_of,
    plain_array,
    repeated,
    seconds_and_start,
)
from jde_ray.pipelines.live.results import read_detections, read_tracks
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import TrackedFrame, Video

START = datetime(2024, 5, 1, 9, 30, 0, 250_001, UTC)
PLAIN = Video("/archive/door/a.mp4", "a")
KNOWN = replace(PLAIN, camera="door", start=START)
STAMPS = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


def write(out: Path, video: Video) -> Path:
    """OUT with 0, 1 and 2 people in three frames."""
    outputs = OutputConfig(save_detections=True)
    writer = RowWriter(out / "spool", video, 0, outputs)
    for frame in range(3):
        boxes = np.tile(np.array([[1, 2, 30, 40]], np.float32), (frame, 1))
        scores, blind = np.full(frame, 0.5, np.float32), np.zeros((frame, 0), np.float16)
        ids = np.arange(1, frame + 1)
        writer.write(TrackedFrame(frame, frame / 25, Tracks(ids, boxes, scores, ids - 1)))
        writer.write_detections(SavedFrame(frame, frame / 25, Detections(boxes, scores, blind)))
    writer.commit(open_store(str(out)), {})
    return out


def test_rows_and_frames_carry_what_is_known(tmp_path: Path) -> None:
    out = write(tmp_path, KNOWN)
    at = [START + timedelta(seconds=frame / 25) for frame in range(3)]
    tracks = pq.ParquetFile(next((out / "tracks").iterdir())).read()
    assert tracks.column("time").to_pylist() == [at[1], at[2], at[2]]
    assert tracks.column("camera").to_pylist() == ["door"] * 3
    assert tracks.column("class").to_pylist() == ["person"] * 3
    frames = pq.ParquetFile(next((out / "detections").iterdir())).read()
    assert frames.column("time").to_pylist() == at
    assert frames.column("camera").to_pylist() == ["door"] * 3
    assert frames.column("classes").to_pylist() == [[], ["person"], ["person"] * 2]
    for table in (read_tracks(out), read_detections(out)):
        assert table.column("time").to_pylist() == [at[1], at[2], at[2]]
        assert set(table.column("camera").to_pylist()) == {"door"}
        assert set(table.column("class").to_pylist()) == {"person"}


def test_what_is_unknown_is_null_and_goes_with_what_is_known(tmp_path: Path) -> None:
    out = write(tmp_path, PLAIN)
    other = replace(KNOWN, uri="/archive/door/b.mp4", name="b")
    write(tmp_path, other)
    for table in (read_tracks(out), read_detections(out)):
        assert table.column("camera").to_pylist() == [None] * 3 + ["door"] * 3
        assert table.column("time").null_count == 3
    schemas = {pq.read_schema(path).remove_metadata() for path in (out / "tracks").iterdir()}
    assert len(schemas) == 1


@given(STAMPS, st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_a_time_is_the_start_and_the_seconds_to_the_microsecond(start, seconds) -> None:
    time_s = np.array(seconds)
    times = clock_times(start, time_s)
    exact = [(start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)]
    found = times.cast(pa.int64()).to_numpy()
    np.testing.assert_array_equal(found, exact[0] + np.rint(time_s * 1e6).astype(np.int64))
    table = pa.table({"time_s": time_s, "time": times})
    assert seconds_and_start(table)[1] == exact[0]
    (own, first), gaps = seconds_and_start(table.select(["time"])), found - found[0]
    assert (first, own.tolist()) == (found[0], (gaps / 1e6).tolist())


def test_nothing_is_said_of_a_start_that_some_rows_lack() -> None:
    assert clock_times(None, np.zeros(2)).null_count == 2
    assert repeated(None, 2).null_count == 2
    table = pa.table({"time_s": [0.0, 0.1], "time": pa.array([None, START])})
    assert seconds_and_start(table)[1] is None
    assert seconds_and_start(table.slice(0, 0))[1] is None
    assert seconds_and_start(table.select([])) == (None, None)


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_a_time_in_another_unit_is_understood(unit: str) -> None:
    moment = START.replace(microsecond=0)
    times = pa.array([moment], pa.timestamp(unit, "UTC"))
    start = seconds_and_start(pa.table({"time_s": [2.0], "time": times}))[1]
    assert start == int(moment.timestamp() - 2) * 1_000_000


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.float16(), pa.float32(), pa.float64()])
def test_numbers_of_a_column_are_those_of_arrow(kind: pa.DataType) -> None:
    values = np.arange(7).astype(kind.to_pandas_dtype())
    whole = plain_array(values)
    assert whole.type == kind
    assert whole.equals(pa.array(values, kind))
    parts = pa.chunked_array([whole[2:5], whole[:0], whole[6:]])
    got = numbers_of(parts)
    assert got.dtype == values.dtype
    assert got.tolist() == [2, 3, 4, 6]
    assert numbers_of(pa.chunked_array([whole[:0]])).tolist() == []


def test_a_column_with_nulls_is_read_by_arrow() -> None:
    got = numbers_of(pa.chunked_array([pa.array([1.5, None])]))
    assert got[0] == 1.5
    assert np.isnan(got[1])


@pytest.mark.parametrize("text", ["a", "Straße 駅前", "", None])
def test_a_repeated_text_is_the_same_in_every_row(text: str | None) -> None:
    column = repeated(text, 3)
    column.validate(full=True)
    assert column.type == TEXT
    assert column.to_pylist() == [text] * 3

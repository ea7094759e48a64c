from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counted_tracks import rows_of, write_tracks
from places import GOLDEN

from jde_ray.pipelines.formats.sightings import read_origin, read_sightings

WALK = (4, 0, 5, (10, 50), (60, 50))


def origin(path):
    with pq.ParquetFile(path) as file:
        return read_origin(file, path.stem)


def test_a_file_that_says_nothing_is_of_the_camera_of_its_name(tmp_path):
    path = write_tracks(tmp_path, "door-0123456789abcdef", rows_of(WALK))
    assert origin(path).camera == "door-0123456789abcdef", "the video's file is called so"
    assert origin(path).start_us is None
    empty = rows_of(WALK)
    empty = tuple(column[:0] for column in empty)
    path = write_tracks(tmp_path, "door-0123456789abcdef", empty)
    assert origin(path).camera == "door"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_former_formats_are_read(number):
    (path,) = (GOLDEN / f"format_{number}" / "tracks").glob("*.parquet")
    assert (origin(path).camera, origin(path).start_us) == ("clip", None)
    with pq.ParquetFile(path) as file:
        seen = read_sightings(file)
    assert len(seen.rows) == pq.read_metadata(path).num_rows > 0
    assert seen.video.endswith("clip.mp4")


def test_camera_and_start_are_read_from_metadata_or_columns(tmp_path):
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    path = write_tracks(tmp_path, "a", rows_of(WALK), camera="hall", start=start.isoformat())
    assert origin(path).camera == "hall"
    assert origin(path).start_us == start.timestamp() * 1e6
    table = pq.read_table(write_tracks(tmp_path, "b", rows_of((4, 3, 5, (1, 1), (2, 2)))))
    times = pa.array([start] * len(table), pa.timestamp("us", tz="UTC"))
    table = table.append_column("time", times).append_column("camera", pa.array(["yard"] * 3))
    pq.write_table(table, tmp_path / "b.parquet")
    assert origin(tmp_path / "b.parquet").camera == "yard"
    assert origin(tmp_path / "b.parquet").start_us == start.timestamp() * 1e6 - 300_000


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("x1", np.array([np.nan, 1.0]), "box: got a number that is null"),
        ("frame", pa.array([None, 1], pa.int32()), "frame: got a number that is null"),
        ("frame", pa.array([0, -1], pa.int32()), "frame: got -1, expected numbers from 0"),
        ("time_s", np.array([1e300, 1.0]), "time_s: got 1e.300 s, expected less"),
        ("y2", pa.array(["a", "b"]), "y2: got values of type string, expected numbers"),
        ("track_id", None, "no column track_id, expected frame"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(tmp_path, column, values, message):
    path = write_tracks(tmp_path, "a", rows_of((4, 0, 1, (1, 1), (2, 2))))
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    table = table.remove_column(at)
    if values is not None:
        table = table.add_column(at, column, pa.array(values))
    pq.write_table(table, path)
    with pq.ParquetFile(path) as file, pytest.raises(ValueError, match=message):
        read_sightings(file)

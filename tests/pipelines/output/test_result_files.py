from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.models.structures import Detections, Tracks
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.detections import SavedFrame, detection_schema
from jde_ray.pipelines.formats.tracks import track_schema
from jde_ray.pipelines.output import result_files
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import TrackedFrame, Video

VIDEO = Video("/archive/a b.mp4", "a b")
METADATA = {"width": "640", "num_frames": "3"}


def tracked(frame: int, count: int, dim: int = 4) -> TrackedFrame:
    rng = np.random.default_rng(frame)
    ids = rng.permutation(count) + 1
    tracks = Tracks(ids, rng.random((count, 4)) * 100, rng.random(count), np.arange(count))
    return TrackedFrame(frame, frame / 25, tracks, rng.random((count, dim)).astype(np.float16))


def write(folder: Path, frames: list[TrackedFrame], outputs: OutputConfig) -> Path:
    writer = result_files.RowWriter(folder / "spool", VIDEO, 4, outputs)
    for frame in frames:
        writer.write(frame)
    assert writer.commit(open_store(str(folder)), METADATA)
    assert not (folder / "spool").exists()
    return folder / result_files.tracks_key(VIDEO.video_id)


def test_rows_follow_the_schema_sorted_by_frame_and_id(tmp_path: Path) -> None:
    path = write(tmp_path, [tracked(i, 5) for i in range(3)], OutputConfig(save_embeddings=True))
    table = pq.ParquetFile(path).read()
    assert table.schema.remove_metadata() == track_schema(4)
    rows = table.to_pylist()
    assert [(row["frame"], row["track_id"]) for row in rows] == [
        (frame, i) for frame in range(3) for i in range(1, 6)
    ]
    frame = tracked(1, 5)
    row, at = rows[5], int(np.argmin(frame.tracks.track_id))
    assert (row["video"], row["video_id"], row["time_s"]) == (VIDEO.uri, VIDEO.video_id, 1 / 25)
    corners = [row[name] for name in ("x1", "y1", "x2", "y2")]
    assert corners == frame.tracks.tlbr[at].astype(np.float32).tolist()
    assert frame.embeddings is not None
    assert row["embedding"] == frame.embeddings[at].tobytes()


def test_metadata_is_plain(tmp_path: Path) -> None:
    found = pq.read_metadata(write(tmp_path, [tracked(0, 1)], OutputConfig())).metadata
    assert {k: v for k, v in found.items() if k != b"ARROW:schema"} == {
        b"width": b"640",
        b"num_frames": b"3",
    }


def test_a_video_without_people_has_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, [tracked(0, 0)], OutputConfig(save_mot=True))
    table = pq.ParquetFile(path).read()
    assert table.num_rows == 0
    assert table.schema.remove_metadata() == track_schema()
    assert (tmp_path / "mot" / f"{VIDEO.video_id}.txt").read_bytes() == b""


def test_row_groups_and_bytes_depend_on_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "ROW_GROUP_ROWS", 64)
    frames = [tracked(i, i % 7) for i in range(100)]
    paths = [write(tmp_path / name, frames, OutputConfig()) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    meta = pq.read_metadata(paths[0])
    sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    assert sizes[:-1] == [64] * (len(sizes) - 1)
    assert sum(sizes) == sum(i % 7 for i in range(100))


def test_the_second_attempt_leaves_the_first_ones_rows(tmp_path: Path) -> None:
    path = write(tmp_path, [tracked(0, 2)], OutputConfig())
    before = path.read_bytes()
    writer = result_files.RowWriter(tmp_path / "spool", VIDEO, 4, OutputConfig())
    assert not writer.commit(open_store(str(tmp_path)), METADATA)
    assert path.read_bytes() == before


def test_nothing_is_visible_before_the_commit(tmp_path: Path) -> None:
    outputs = OutputConfig(save_mot=True, save_detections=True)
    writer = result_files.RowWriter(tmp_path / "spool", VIDEO, 4, outputs)
    writer.write(tracked(0, 2))
    assert list(open_store(str(tmp_path)).list("tracks/")) == []
    writer.abandon()
    assert list(tmp_path.rglob("*")) == []


def test_detections_keep_every_frame(tmp_path: Path) -> None:
    outputs = OutputConfig(save_detections=True)
    writer = result_files.RowWriter(tmp_path / "spool", VIDEO, 4, outputs)
    rng = np.random.default_rng(0)
    vectors = rng.random((2, 4)).astype(np.float16)
    found = Detections(rng.random((2, 4), np.float32), rng.random(2, np.float32), vectors)
    for frame, value in enumerate((found, Detections.empty(4), found)):
        writer.write_detections(SavedFrame(frame, frame / 10, value))
    writer.commit(open_store(str(tmp_path)), METADATA)
    path = tmp_path / "detections" / f"{VIDEO.video_id}.parquet"
    table = pq.ParquetFile(path).read()
    assert table.schema.remove_metadata() == detection_schema(4)
    assert table["frame"].to_pylist() == [0, 1, 2]
    assert [len(boxes) for boxes in table["boxes"].to_pylist()] == [2, 0, 2]
    assert table["boxes"][2].as_py() == found.tlbr.tolist()
    assert table["embeddings"][0].as_py() == [v.tobytes() for v in vectors]
    assert pa.types.is_list(table.schema.field("scores").type)


def test_mot_text_has_a_line_a_row(tmp_path: Path) -> None:
    write(tmp_path, [tracked(0, 2), tracked(4, 1)], OutputConfig(save_mot=True))
    lines = (tmp_path / "mot" / f"{VIDEO.video_id}.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["1", "1", "5"]


def test_an_error_record_is_created_once(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert result_files.write_error(store, VIDEO, VideoError(Reason.DECODE, "bad\nbyte", 3))
    assert not result_files.write_error(store, VIDEO, VideoError(Reason.EMPTY, "other"))
    record = json.loads(store.get(result_files.error_key(VIDEO.video_id)))
    assert record == {"video": VIDEO.uri, "reason": "decode", "detail": "bad byte", "frame": 3}

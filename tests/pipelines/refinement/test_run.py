import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.models.structures import Tracks
from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
from jde_ray.models.tracking.postprocessing.trajectories import with_boxes
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.formats import tracks as tracks_format
from jde_ray.pipelines.formats.parquet_file import binary_array
from jde_ray.pipelines.formats.tracks import read_embeddings, read_tracks
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.refinement import records
from jde_ray.pipelines.refinement import run as run_module
from jde_ray.pipelines.refinement.records import check_refined
from jde_ray.pipelines.refinement.run import refine
from jde_ray.pipelines.refinement.steps import USUAL, RefineConfig
from jde_ray.pipelines.sources import saved_tracks
from jde_ray.pipelines.storage.local import LocalStore
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import TrackedFrame, Video

START = datetime(2024, 5, 1, 9, 30, 0, 250_001, UTC)
VIDEO = Video("/videos/a.mp4", "a", camera="door", start=START)
FILE = f"{VIDEO.video_id}.parquet"


def run(out, frames, embeddings=True, video=VIDEO):
    """OUT of a run over frames of (ids, x of each), with a gap where there is none."""
    store = open_store(str(out))
    outputs = OutputConfig(save_embeddings=embeddings)
    writer = RowWriter(out / "rows", video, 4, outputs)
    for frame, (ids, xs) in frames.items():
        x = np.array(xs, float)
        tlbr = np.stack([x, 0 * x, x + 10, 0 * x + 20], 1)
        tracks = Tracks(np.array(ids), tlbr, np.full(len(ids), 0.75), np.arange(len(ids)))
        vectors = np.eye(4, dtype=np.float16)[[0] * len(ids)]
        writer.write(TrackedFrame(frame, frame / 10, tracks, vectors if embeddings else None))
    writer.commit(store, {"frames_per_second": "10", "width": "64", "num_frames": "30"})
    store.put("run.json", json.dumps({"config_hash": "x", "config": {"vid_stride": 1}}).encode())
    return out


def walk():
    return {f: ([1], [2.0 * f]) for f in range(10)} | {f: ([2], [2.0 * f]) for f in range(13, 25)}


def test_joined_filled_and_smoothed_tracks_go_to_their_own_folder(tmp_path):
    out = run(tmp_path / "run", walk())
    before = (out / "tracks" / FILE).read_bytes()
    config = RefineConfig(relink=LinkSettings(), interpolate=5, smooth=True)
    (done,) = refine(out, str(tmp_path / "new"), config)
    assert (done.tracks_before, done.tracks_after) == (2, 1)
    assert (done.rows_before, done.rows_after) == (22, 25)
    assert (out / "tracks" / FILE).read_bytes() == before
    rows = read_tracks(tmp_path / "new" / "tracks" / FILE)
    assert rows.frame.tolist() == list(range(25))
    assert rows.tlbr[:, 0] == pytest.approx(2 * np.arange(25), abs=1.0)


def test_the_new_file_has_the_columns_and_metadata_of_the_old_one(tmp_path):
    out = run(tmp_path / "run", walk())
    refine(out, str(tmp_path / "new"), RefineConfig(interpolate=5, relink=LinkSettings()))
    old, new = (pq.read_table(folder / "tracks" / FILE) for folder in (out, tmp_path / "new"))
    assert new.schema.equals(old.schema)
    assert new.column("time_s").to_numpy() == pytest.approx(np.arange(25) / 10)
    assert set(new.column("video").to_pylist()) == {VIDEO.uri}
    assert set(new.column("camera").to_pylist()) == {"door"}
    assert set(new.column("class").to_pylist()) == {"person"}
    filled = [START + timedelta(seconds=frame / 10) for frame in range(25)]
    assert new.column("time").to_pylist() == filled
    metadata = pq.read_metadata(tmp_path / "new" / "tracks" / FILE).metadata
    assert metadata[b"frames_per_second"] == b"10"
    seen = pq.read_schema(tmp_path / "new" / "tracks" / FILE).metadata
    assert seen == {name: value for name, value in metadata.items() if name != b"ARROW:schema"}
    assert json.loads(metadata[b"refined"])["interpolate"] == 5
    record = json.loads((tmp_path / "new" / "run.json").read_text())
    assert record["config"]["refined"]["interpolate"] == 5
    assert record["config_hash"] != "x"


def test_columns_that_somebody_added_are_empty_and_named(tmp_path):
    out = run(tmp_path / "run", walk())
    path = out / "tracks" / FILE
    table = pq.ParquetFile(path).read()
    added = {"zone": list(range(len(table))), "name": ["x"] * len(table)}
    wanted = pa.schema([pa.field("zone", pa.int64(), nullable=False), ("name", pa.string())])
    for field_, values in zip(wanted, added.values(), strict=True):
        table = table.append_column(field_, pa.array(values, field_.type))
    pq.write_table(table, path)
    (done,) = refine(out, str(tmp_path / "new"), RefineConfig(interpolate=5))
    assert done.emptied == ("zone", "name")
    new = pq.ParquetFile(tmp_path / "new" / "tracks" / FILE).read()
    assert new.column("zone").null_count == new.column("name").null_count == len(new) > 0
    assert set(new.column("video").to_pylist()) == {VIDEO.uri}
    assert new.schema.types == table.schema.types
    plain = run(tmp_path / "plain", walk())
    assert refine(plain, str(tmp_path / "other"), RefineConfig(interpolate=5))[0].emptied == ()


def test_columns_of_our_names_but_another_kind_are_somebody_elses(tmp_path):
    out = run(tmp_path / "run", walk())
    path = out / "tracks" / FILE
    table = pq.ParquetFile(path).read()
    for name, values in (("time", ["noon"]), ("class", [7])):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values * len(table)))
    plain_camera = table.column("camera").cast(pa.string())
    table = table.set_column(2, "camera", plain_camera)  # as pandas writes it
    pq.write_table(table, path)
    (done,) = refine(out, str(tmp_path / "new"), RefineConfig(interpolate=5))
    assert done.emptied == ("time", "class")
    new = pq.ParquetFile(tmp_path / "new" / "tracks" / FILE).read()
    assert new.column("time").null_count == new.column("class").null_count == len(new) == 22
    assert set(new.column("camera").to_pylist()) == {"door"}
    assert new.schema.types == table.schema.types


def test_a_start_that_is_not_known_stays_unknown(tmp_path):
    out = run(tmp_path / "run", walk(), video=Video(VIDEO.uri, VIDEO.name))
    refine(out, str(tmp_path / "new"), RefineConfig(interpolate=5, relink=LinkSettings()))
    new = pq.ParquetFile(tmp_path / "new" / "tracks" / FILE).read()
    assert new.column("time").null_count == new.column("camera").null_count == len(new) == 25


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '{"config": 1}', "\0", '{"config": {}}'])
def test_a_run_record_of_another_shape_is_one_line(tmp_path, text):
    out = run(tmp_path / "run", walk())
    (out / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json cannot be read .* put back"):
        refine(out, str(tmp_path / "new"), RefineConfig(smooth=True))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"out: .*run\.json cannot be read .* choose another"):
        refine(run(tmp_path / "good", walk()), str(tmp_path / "new"), RefineConfig(smooth=True))


def test_files_are_created_once_and_other_settings_are_refused(tmp_path):
    out, new = run(tmp_path / "run", walk()), str(tmp_path / "new")
    assert refine(out, new, RefineConfig(interpolate=5))[0].is_new
    assert not refine(out, new, RefineConfig(interpolate=5))[0].is_new
    with pytest.raises(ValueError, match="holds tracks of another run or setting"):
        refine(out, new, RefineConfig(interpolate=6))
    with pytest.raises(ValueError, match="is where the tracks are"):
        refine(out, str(out), RefineConfig(interpolate=5))


@pytest.mark.parametrize("place", ["tracks/x", "mot", "crops/x", "refined/tracks", "refined/x"])
def test_parts_of_the_run_are_no_place_for_refined_tracks(tmp_path, place):
    out = run(tmp_path / "run", walk())
    for source in (out, out / "tracks", out / "tracks" / FILE):
        with pytest.raises(ValueError, match=r"out: .* expected .*run/refined or a folder of its"):
            refine(source, str(out / place), USUAL)
    for own in (out, out / "tracks"):
        with pytest.raises(ValueError, match=r"out: .* is where the tracks are"):
            refine(out / "tracks", str(own), USUAL)
    assert sorted(path.name for path in out.iterdir()) == ["run.json", "tracks"]
    assert [path.name for path in (out / "tracks").iterdir()] == [FILE]
    refine(out, str(out / "joined"), USUAL)


def test_the_folder_of_the_text_is_no_place_for_refined_text(tmp_path):
    source = results(tmp_path / "mot", [(1, 90)])
    (tmp_path / "link").symlink_to(source)
    for place in (source, tmp_path / "link"):
        with pytest.raises(ValueError, match=r"out: .* is where the tracks are"):
            refine(source, str(place), USUAL)
    assert [path.name for path in source.iterdir()] == ["SEQ.txt"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    out = run(tmp_path / "run", walk())
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.md").write_text("mine")
    with pytest.raises(ValueError, match=r"out: .*new is not empty; choose another folder"):
        refine(out, str(tmp_path / "new"), USUAL)
    with pytest.raises(ValueError, match=r"out: .*new is not empty; choose another folder"):
        check_refined(str(tmp_path / "new"), USUAL)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["notes.md"]
    with pytest.raises(ValueError, match=r"out: got .*notes.md, where a file is in the way"):
        refine(out, str(tmp_path / "new" / "notes.md"), USUAL)


def test_equal_input_gives_equal_bytes(tmp_path):
    out = run(tmp_path / "run", walk())
    config = RefineConfig(relink=LinkSettings(), interpolate=5, smooth=True)
    for name in ("one", "two"):
        refine(out, str(tmp_path / name), config)
    one, two = ((tmp_path / name / "tracks" / FILE).read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_video_of_nobody_stays_one(tmp_path):
    out = run(tmp_path / "run", {})
    (done,) = refine(out, str(tmp_path / "new"), RefineConfig(interpolate=5, smooth=True))
    assert (done.rows_after, done.tracks_after) == (0, 0)
    assert len(read_tracks(tmp_path / "new" / "tracks" / FILE)) == 0


def test_embeddings_follow_their_rows(tmp_path):
    out = run(tmp_path / "run", walk())
    path = out / "tracks" / FILE
    table = pq.ParquetFile(path).read()
    vectors = np.arange(4 * len(table), dtype=np.float16).reshape(-1, 4)
    place = table.schema.get_field_index("embedding")
    table = table.set_column(place, table.schema.field(place), binary_array(vectors))
    pq.write_table(table, path)
    refine(out, str(tmp_path / "new"), RefineConfig(interpolate=5, relink=LinkSettings()))
    new = read_embeddings(pq.ParquetFile(tmp_path / "new" / "tracks" / FILE).read())
    assert new.tolist() == vectors[[*range(10), 9, 9, 9, *range(10, 22)]].tolist()


def test_without_embeddings_tracks_are_joined_by_motion(tmp_path):
    out = run(tmp_path / "run", walk(), embeddings=False)
    (done,) = refine(out, str(tmp_path / "new"), USUAL)
    assert (done.tracks_before, done.tracks_after, done.by_appearance) == (2, 1, False)


def test_tracks_that_changed_since_are_refined_anew(tmp_path):
    out, new = run(tmp_path / "run", walk()), tmp_path / "new"
    assert refine(out, str(new), USUAL)[0].is_new
    before = (new / "tracks" / FILE).read_bytes()
    (done,) = refine(out, str(new), USUAL)
    assert (done.is_new, done.tracks_before, done.tracks_after) == (False, 2, 1)
    (out / "tracks" / FILE).unlink()
    run(out, {f: ([1], [3.0 * f]) for f in range(10)})
    assert refine(out, str(new), USUAL)[0].is_new
    assert len(read_tracks(new / "tracks" / FILE)) == 10
    (new / "tracks" / FILE).write_bytes(before[:100])  # not a whole file
    assert refine(out, str(new), USUAL)[0].is_new


def test_text_that_changed_since_is_refined_anew(tmp_path):
    source, new = (
        results(tmp_path / "mot", [(frame, 90) for frame in range(1, 7)]),
        tmp_path / "new",
    )
    config = RefineConfig(interpolate=5)
    assert refine(source, str(new), config)[0].is_new
    path = new / "tracks" / "SEQ.txt"
    since = path.stat().st_mtime_ns
    assert not refine(source, str(new), config)[0].is_new
    assert path.stat().st_mtime_ns == since
    results(tmp_path / "mot", [(frame, 90) for frame in (1, 2, 5, 6, 7, 8)])
    (done,) = refine(source, str(new), config)
    assert (done.is_new, done.rows_after) == (True, 8)
    assert len(path.read_text().splitlines()) == 8


@pytest.mark.parametrize("at", [8, -30])
def test_a_refined_file_that_is_damaged_is_written_anew(tmp_path, at):
    out, new = run(tmp_path / "run", walk()), tmp_path / "new"
    refine(out, str(new), USUAL)
    path = new / "tracks" / FILE
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[at : at + 12] = b"\xff" * 12
    path.write_bytes(broken)
    assert refine(out, str(new), USUAL)[0].is_new
    assert path.read_bytes() == whole


def test_large_files_are_written_in_parts(tmp_path, monkeypatch):
    out = run(tmp_path / "run", walk())
    refine(out, str(tmp_path / "one"), USUAL)
    monkeypatch.setattr(tracks_format, "ROW_GROUP_ROWS", 4)
    monkeypatch.setattr(run_module, "ROW_GROUP_ROWS", 4)
    refine(out, str(tmp_path / "two"), USUAL)
    one, two = (pq.ParquetFile(tmp_path / name / "tracks" / FILE) for name in ("one", "two"))
    assert (one.num_row_groups, two.num_row_groups) == (1, 7)
    assert one.read().equals(two.read())


def test_other_steps_are_refused_before_any_work(tmp_path):
    out, new = run(tmp_path / "run", walk()), str(tmp_path / "run" / "refined")
    check_refined(new, USUAL)
    refine(out, new, USUAL)
    check_refined(new, USUAL)
    with pytest.raises(ValueError, match="refined by other steps; remove it"):
        check_refined(new, RefineConfig(smooth=True))


class Renamed(LocalStore):
    """A folder that calls itself a bucket."""

    def __init__(self, folder, uri):
        super().__init__(folder)
        self.own_uri = uri

    @property
    def uri(self):
        return self.own_uri


def test_tracks_in_a_bucket_are_fetched_one_by_one(tmp_path, monkeypatch):
    run(tmp_path / "run", walk())

    def bucket(uri):
        return Renamed(tmp_path / uri.removeprefix("s3://bucket/"), uri)

    for module in (run_module, records, saved_tracks):
        monkeypatch.setattr(module, "open_store", bucket)
    (done,) = refine("s3://bucket/run", "s3://bucket/run/refined", USUAL)
    assert (done.is_new, done.tracks_after, done.by_appearance) == (True, 1, True)
    assert not refine("s3://bucket/run", "s3://bucket/run/refined", USUAL)[0].is_new
    record = json.loads((tmp_path / "run" / "refined" / "run.json").read_text())
    assert record["refined_from"] == "s3://bucket/run"
    assert record["config"]["vid_stride"] == 1
    with pytest.raises(ValueError, match="is where the tracks are"):
        refine("s3://bucket/run", "s3://bucket/run", USUAL)
    with pytest.raises(ValueError, match="no Parquet file and no MOT text file in s3://bucket/x"):
        refine("s3://bucket/x", "s3://bucket/y", USUAL)


def test_mot_text_becomes_mot_text(tmp_path):
    (tmp_path / "sort").mkdir()
    text = "".join(f"{f},7,{f},1,10,20,1,-1,-1,-1\n" for f in (1, 2, 5, 6))
    (tmp_path / "sort" / "SEQ.txt").write_text(text)
    refine(tmp_path / "sort", str(tmp_path / "new"), RefineConfig(interpolate=5))
    lines = (tmp_path / "new" / "tracks" / "SEQ.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert lines[2].startswith("3,7,3.00,1.00,10.00,20.00,")


def with_column(path, name, values):
    """The Parquet file with other values of a column."""
    table = pq.ParquetFile(path).read()
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, name, pa.array(values(len(table)))), path)


def results(folder, rows):
    """A folder with MOT text of (frame, height) in one track."""
    folder.mkdir(exist_ok=True)
    lines = [f"{frame},1,10,10,50,{height},1,-1,-1,-1\n" for frame, height in rows]
    (folder / "SEQ.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("height", [0, -4])
def test_a_box_without_height_does_not_spoil_its_track(tmp_path, height):
    heights = [90, 90, height, 90, 90, 90]
    source = results(tmp_path / "mot", enumerate(heights, start=1))
    refine(source, str(tmp_path / "new"), USUAL)
    rows = read_tracks(tmp_path / "new" / "tracks" / "SEQ.txt")
    assert (rows.tlbr[:, 3] - rows.tlbr[:, 1]).tolist() == pytest.approx(heights, abs=0.02)


def test_values_that_are_not_finite_are_never_written(tmp_path, monkeypatch):
    def spoil(tracks, *_):
        return with_boxes(tracks, np.full_like(tracks.tlbr, np.nan))

    monkeypatch.setattr(run_module, "refine_tracks", spoil)
    source = results(tmp_path / "mot", [(frame, 90) for frame in range(1, 7)])
    (done,) = refine(source, str(tmp_path / "new"), USUAL)
    assert "SEQ.txt: track 1: got NaN or Inf from coordinates of up to 99" in done.error
    assert not (tmp_path / "new" / "tracks").exists()


@pytest.mark.parametrize("score", [float("nan"), None])
def test_scores_that_are_not_finite_are_refused(tmp_path, score):
    out = run(tmp_path / "run", walk())
    with_column(out / "tracks" / FILE, "score", lambda n: [0.5] * (n - 1) + [score])
    (done,) = refine(out, str(tmp_path / "new"), USUAL)
    assert done.error.endswith(f"{FILE}: got a score that is NaN or Inf, expected finite numbers")


@pytest.mark.parametrize("name", ["frame", "x1", "score", "time_s"])
def test_a_column_of_text_is_named(tmp_path, name):
    out = run(tmp_path / "run", walk())
    with_column(out / "tracks" / FILE, name, lambda n: [str(k) for k in range(n)])
    (done,) = refine(out, str(tmp_path / "new"), USUAL)
    path = out / "tracks" / FILE
    assert done.error == f"{path}: {name}: got values of type string, expected numbers"


@pytest.mark.parametrize("value", [[1.0, 2.0], None])
def test_embeddings_of_another_kind_are_named(tmp_path, value):
    out = run(tmp_path / "run", walk())
    with_column(out / "tracks" / FILE, "embedding", lambda n: [value] * n)
    (done,) = refine(out, str(tmp_path / "new"), USUAL)
    assert f"{FILE}: embedding: got nulls or values of type" in done.error


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data.replace(b"/videos/a", b"\xff" * 9, 1), "(.* can't decode byte 0xff in"),
        (lambda data: data[:100], "("),
        (lambda data: data[:8] + b"\xff" * 12 + data[20:], "("),
    ],
    ids=["text", "end", "page"],
)
def test_a_damaged_file_is_named_and_the_others_are_refined(tmp_path, damage, reason):
    out = run(tmp_path / "run", walk())
    run(out, walk(), video=Video("/videos/b.mp4", "b"))
    path = out / "tracks" / FILE
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    bad, good = refine(out, str(tmp_path / "new"), USUAL)
    assert re.match(re.escape(f"{path}: not a readable Parquet file ") + rf"\{reason}", bad.error)
    assert "\n" not in bad.error
    assert (bad.is_new, good.is_new, good.error) == (False, True, "")
    assert [file.stem for file in (tmp_path / "new" / "tracks").iterdir()] == [good.name]
    path.write_bytes(whole)
    assert [one.is_new for one in refine(out, str(tmp_path / "new"), USUAL)] == [True, False]


def test_settings_are_checked():
    assert RefineConfig().does_nothing
    with pytest.raises(ValueError, match=r"interpolate: got -1, expected 0 to"):
        RefineConfig(interpolate=-1)
    with pytest.raises(ValueError, match=r"min-track-length: got 0, expected 1 to"):
        RefineConfig(min_track_length=0)

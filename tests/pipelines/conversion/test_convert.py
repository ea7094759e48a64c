"""What stands in the folder after a conversion: names, one or many files, a second call."""

from __future__ import annotations

import csv
import json
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import fakes
import places
import planted_out
import pytest
from fakes import Script
from planted_out import ROWS, write_tracks

from jde_ray.pipelines.conversion import convert as conversion
from jde_ray.pipelines.conversion.convert import ConvertConfig, convert
from jde_ray.pipelines.conversion.kinds import KINDS
from jde_ray.pipelines.formats.exchange.annotated import raise_refusal
from jde_ray.pipelines.formats.exchange.coco_reader import read_coco
from jde_ray.pipelines.formats.exchange.video_tracks import FACTS
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.sources import saved_tracks
from jde_ray.pipelines.storage.local import LocalStore
from jde_ray.pipelines.tracking import reference

FORMATS = sorted(places.GOLDEN.glob("format_*"))
EVERY = pytest.mark.parametrize("to", KINDS)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(tmp_path: Path, to: str, out: str = "", **details: Any) -> dict[str, bytes]:
    folder = tmp_path / (out or to)
    convert(str(tmp_path / "run"), str(folder), ConvertConfig(to=to, **details))
    return files_of(folder)


@EVERY
def test_each_format_has_a_module_and_known_needs(to: str):
    kind = KINDS[to]
    assert set(kind.needs) <= set(FACTS)
    assert hasattr(kind.load(), "write_dataset" if kind.is_one_file else "write")


@EVERY
def test_two_videos_of_one_name_do_not_overwrite_each_other(tmp_path: Path, to: str):
    first = write_tracks(tmp_path / "run", ROWS[:1], "/videos/a/door.mp4")
    second = write_tracks(tmp_path / "run", ROWS[:2], "/videos/b/door.mp4")
    write_tracks(tmp_path / "run", ROWS[:3], "/videos/hall.mp4")
    done = convert(str(tmp_path / "run"), str(tmp_path / to), ConvertConfig(to=to))
    assert {one.name: one.num_rows for one in done} == {first.stem: 1, second.stem: 2, "hall": 3}
    text = b"".join(files_of(tmp_path / to).values()).decode() + str(files_of(tmp_path / to).keys())
    assert first.stem in text
    assert second.stem in text


@EVERY
@pytest.mark.parametrize("name", ["convert", "Convert", "annotations"])
def test_no_video_is_written_where_something_else_is_looked_for(tmp_path: Path, to: str, name: str):
    write_tracks(tmp_path / "run", ROWS, f"/videos/{name}.mp4")
    files = run(tmp_path, to)
    assert json.loads(files["convert.json"])["to"] == to
    assert "Convert.json" not in files, "the same file on some disks"
    assert "annotations.xml" not in files, "it would be of a video called like the folder"
    assert run(tmp_path, to) == files


def test_a_name_without_a_hash_gets_one_if_it_is_taken(tmp_path: Path):
    path = write_tracks(tmp_path / "run", ROWS, "/videos/convert.mp4")
    path.rename(path.with_name("convert.parquet"))
    (own,) = run(tmp_path, "rekognition").keys() - {"convert.json"}
    assert own.startswith("convert-")
    (own,) = run(tmp_path, "cvat").keys() - {"convert.json"}
    assert own == "convert.xml"


@EVERY
def test_a_second_call_writes_the_same_and_follows_changes(tmp_path: Path, to: str):
    write_tracks(tmp_path / "run", ROWS, num_frames=8)
    before = run(tmp_path, to)
    assert run(tmp_path, to) == before
    write_tracks(tmp_path / "run", ROWS[:3], num_frames=4)  # tracked again
    write_tracks(tmp_path / "run", ROWS[:1], "/videos/hall.mp4")  # and one more
    after = run(tmp_path, to)
    assert after != before
    assert after == run(tmp_path, to, out="afresh")


@EVERY
def test_a_video_without_people_is_there_too(tmp_path: Path, to: str):
    write_tracks(tmp_path / "run", [], "/videos/empty.mp4")
    files = run(tmp_path, to)
    assert any("empty" in name or b"empty" in text for name, text in files.items())


@pytest.mark.parametrize("fact", ["width", "frames_per_second", "num_frames", "time_s"])
@EVERY
def test_a_missing_fact_is_named_in_one_line(tmp_path: Path, to: str, fact: str):
    path = write_tracks(tmp_path / "run", without=[fact])
    if fact == "time_s":
        import pyarrow.parquet as pq

        table = pq.read_table(path).drop_columns(["time_s"])
        metadata = {k: v for k, v in table.schema.metadata.items() if k != b"frames_per_second"}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    need = {"width": "size", "frames_per_second": "rate", "num_frames": "frames"}.get(fact, "time")
    if need not in KINDS[to].needs:
        if need != "time":
            assert run(tmp_path, to)
        return
    with pytest.raises(ValueError, match=r"no .* in its") as caught:
        run(tmp_path, to)
    wanted = "frames_per_second" if fact == "time_s" else fact  # which is checked before
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_something_else_is_refused(tmp_path: Path):
    write_tracks(tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"full is not empty"):
        run(tmp_path, "mot", out="full")
    run(tmp_path, "mot")
    with pytest.raises(ValueError, match=r"holds files of another conversion"):
        run(tmp_path, "cvat", out="mot")
    with pytest.raises(ValueError, match=r"is not empty"):  # the run itself
        run(tmp_path, "mot", out="run")


def test_a_killed_call_leaves_whole_files_and_the_next_one_ends_it(tmp_path: Path, monkeypatch):
    for name in ("a", "b", "c"):
        write_tracks(tmp_path / "run", ROWS, f"/videos/{name}.mp4")
    whole = run(tmp_path, "yolo", out="whole")
    rename, calls = conversion.os.rename, []

    def die(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(conversion.os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "yolo")
    monkeypatch.undo()
    left = files_of(tmp_path / "yolo")
    assert {name.split("/")[1] for name in left if name.startswith("labels")} == {"a"}
    assert run(tmp_path, "yolo") == {**whole, "convert.json": left["convert.json"]}


def test_the_zip_has_the_texts_at_its_top_and_no_clock(tmp_path: Path):
    write_tracks(tmp_path / "run", ROWS, "/videos/MOT17-01-SDP.mp4")
    write_tracks(tmp_path / "run", ROWS[:2], "/videos/MOT17-03.mp4")
    files = run(tmp_path, "mot", zipped=True, detectors=True)
    names = {
        f"MOT17-{number}-{detector}.txt"
        for number in ("01", "03")
        for detector in ("DPM", "FRCNN", "SDP")
    }
    assert files.keys() == {*names, "submission.zip", "convert.json"}
    assert files["MOT17-01-DPM.txt"] == files["MOT17-01-SDP.txt"] != files["MOT17-03-DPM.txt"]
    with zipfile.ZipFile(tmp_path / "mot" / "submission.zip") as packed:
        assert set(packed.namelist()) == names
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert packed.read("MOT17-03-SDP.txt") == files["MOT17-03-SDP.txt"]


def test_detectors_that_are_given_stay_and_half_of_them_is_refused(tmp_path: Path):
    for detector in ("DPM", "FRCNN"):
        write_tracks(tmp_path / "run", ROWS, f"/videos/MOT17-01-{detector}.mp4")
    with pytest.raises(ValueError, match=r"got MOT17-01-DPM, MOT17-01-FRCNN, expected"):
        run(tmp_path, "mot", detectors=True)
    write_tracks(tmp_path / "run", ROWS[:1], "/videos/MOT17-01-SDP.mp4")
    files = run(tmp_path, "mot", detectors=True)
    assert files["MOT17-01-SDP.txt"].count(b"\n") == 1
    assert files["MOT17-01-DPM.txt"].count(b"\n") == len(ROWS)


def test_coco_numbers_go_on_over_videos(tmp_path: Path):
    write_tracks(tmp_path / "run", ROWS, "/videos/a.mp4", num_frames=8)
    write_tracks(tmp_path / "run", ROWS[:2], "/videos/b.mp4", num_frames=3)
    content = json.loads(run(tmp_path, "coco")["annotations.json"])
    assert [one["id"] for one in content["images"]] == list(range(1, 12))
    assert [one["id"] for one in content["annotations"]] == list(range(1, 9))
    found = read_coco(tmp_path / "coco" / "annotations.json", raise_refusal("x"))
    assert [(v.name, len(v.pictures), len(v.rows)) for v in found] == [("a", 8, 6), ("b", 3, 2)]


def test_boxes_beyond_the_border_are_counted(tmp_path: Path):
    rows = [(0, 1, -5.0, 1.0, 9.0, 9.0, 0.5), (0, 2, 700.0, 1.0, 720.0, 9.0, 0.5), *ROWS[2:3]]
    write_tracks(tmp_path / "run", rows)
    source, config = str(tmp_path / "run"), ConvertConfig(to="yolo")
    (done,) = convert(source, str(tmp_path / "yolo"), config)
    assert (done.num_rows, done.num_tracks, done.num_cut, done.num_outside) == (2, 1, 1, 1)
    (done,) = convert(source, str(tmp_path / "cvat"), ConvertConfig(to="cvat"))
    assert (done.num_rows, done.num_cut, done.num_outside) == (3, 0, 0)


def test_mot_text_of_any_tracker_becomes_what_needs_no_picture(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "SEQ.txt").write_text("1,7,2,3,10,20,.5,-1,-1,-1\n")
    (row,) = csv.DictReader(run(tmp_path, "csv")["SEQ.csv"].decode().splitlines())
    assert (row["frame"], row["track_id"], row["x1"]) == ("0", "7", "1")
    assert run(tmp_path, "mot")["SEQ.txt"] == b"1,7,2.00,3.00,10.00,20.00,1,-1,-1,-1\n"
    with pytest.raises(ValueError, match=r"SEQ.txt: no width and height"):
        run(tmp_path, "cvat")


def test_the_stride_of_the_run_counts(tmp_path: Path):
    rows = [(0, 1, 1.0, 1.0, 9.0, 9.0, 0.5), (5, 1, 1.0, 1.0, 9.0, 9.0, 0.5)]
    write_tracks(tmp_path / "run", rows, num_frames=3)
    record = {"config_hash": "0", "config": {"vid_stride": 5}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    names = {name for name in run(tmp_path, "yolo") if name.startswith("labels")}
    assert names == {f"labels/door/{frame:06d}.txt" for frame in (1, 6, 11)}


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"to": "voc"}, "to: got 'voc', expected mot | coco"),
        ({"to": "cvat", "zipped": True}, "zip: got --to cvat, expected it with --to mot"),
        ({"to": "coco", "detectors": True}, "detectors: got --to coco"),
    ],
)
def test_details_of_another_format_are_refused(details: Any, message: str):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        ConvertConfig(**details)


@EVERY
@pytest.mark.parametrize("former", FORMATS, ids=lambda path: path.name)
def test_files_of_former_row_formats_are_converted(tmp_path: Path, to: str, former: Path):
    (done,) = convert(str(former), str(tmp_path / to), ConvertConfig(to=to))
    assert (done.name, done.num_rows, done.num_tracks) == ("clip", 94, 6)


def test_what_a_run_wrote_is_converted_as_it_is(tmp_path: Path):
    fakes.archive(tmp_path / "in", cam=Script(frames=12))
    reference.track(
        [str(tmp_path / "in")], str(tmp_path / "run"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    (path,) = (tmp_path / "run" / "tracks").iterdir()
    rows = read_tracks(path)
    for to in KINDS:
        (done,) = convert(str(tmp_path / "run"), str(tmp_path / to), ConvertConfig(to=to))
        assert (done.name, done.num_rows) == ("cam", len(rows))
        assert done.uri == str(tmp_path / "in" / "cam.mp4")


class Renamed(LocalStore):
    """A folder that calls itself a bucket."""

    def __init__(self, folder: Path, uri: str) -> None:
        super().__init__(folder)
        self._own_uri = uri

    @property
    def uri(self) -> str:
        return self._own_uri


@EVERY
def test_a_bucket_gets_what_a_folder_would(tmp_path: Path, to: str, monkeypatch):
    def bucket(uri: str) -> Renamed:
        return Renamed(tmp_path / uri.removeprefix("s3://bucket/"), uri)

    write_tracks(tmp_path / "run", ROWS, num_frames=8)
    with monkeypatch.context() as patch:
        for module in (conversion, saved_tracks):
            patch.setattr(module, "open_store", bucket)
        config = ConvertConfig(to=to)
        convert("s3://bucket/run", "s3://bucket/there", config)
        write_tracks(tmp_path / "run", ROWS[:3], num_frames=4)
        convert("s3://bucket/run", "s3://bucket/there", config)
    there, here = files_of(tmp_path / "there"), run(tmp_path, to)
    assert {**there, "convert.json": b""} == {**here, "convert.json": b""}


@pytest.mark.ray
def test_many_videos_are_shared_among_tasks(tmp_path: Path, ray_cluster: str):
    for number in range(3):
        write_tracks(tmp_path / "run", ROWS, f"/videos/{number}.mp4")
    config = ConvertConfig(to="cvat")
    done = convert(str(tmp_path / "run"), str(tmp_path / "ray"), config, "auto")
    assert [one.name for one in done] == ["0", "1", "2"]
    here = run(tmp_path, "cvat")
    assert files_of(tmp_path / "ray") == here
    with pytest.raises(ValueError, match="--to coco writes one file, here"):
        convert(str(tmp_path / "run"), str(tmp_path / "c"), ConvertConfig(to="coco"), "auto")


def test_planted_rows_have_a_gap_and_a_track_of_one_frame():
    frames = [frame for frame, track_id, *_ in planted_out.ROWS if track_id == 1]
    assert max(b - a for a, b in pairwise(frames)) > 1
    assert sum(track_id == 3 for _, track_id, *_ in planted_out.ROWS) == 1

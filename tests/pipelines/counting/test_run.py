import json
import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from counted_tracks import PLACES, SIZE, WALKS, rows_of, write_tracks

from jde_ray.models.counting.counter import Counter
from jde_ray.models.counting.events import DIRECTIONS
from jde_ray.pipelines.counting import heads, plan, run, videos
from jde_ray.pipelines.counting.parts import EVENT_SCHEMA, Part
from jde_ray.pipelines.counting.run import count
from jde_ray.pipelines.counting.videos import CountConfig
from jde_ray.pipelines.formats.places_file import parse_places
from jde_ray.pipelines.sources import saved_tracks
from jde_ray.pipelines.storage.local import LocalStore
from jde_ray.pipelines.storage.s3_client import StorageError


def config(text=PLACES, **settings):
    return CountConfig(places=parse_places(yaml.safe_load(text)), **settings)


@pytest.fixture
def out(tmp_path):
    """Three recordings of one camera with a gap of an hour, and one of another without a clock."""
    for number, start in enumerate(("12:00:00", "12:00:10", "14:30:00")):
        write_tracks(
            tmp_path / "out", f"v{number}", rows_of(*WALKS),
            camera="hall", start=f"2026-05-01T{start}+00:00",
        )  # fmt: skip
    write_tracks(tmp_path / "out", "yard", rows_of(*WALKS))
    return tmp_path / "out"


def rows(folder, name="events"):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_events_have_camera_place_direction_and_clock_time(out, tmp_path):
    counted = count(out, str(tmp_path / "to"), config())
    assert (len(counted.videos), counted.failures, counted.num_new) == (4, [], 4)
    events = rows(tmp_path / "to")
    assert pq.read_schema(tmp_path / "to" / "events.parquet").remove_metadata() == EVENT_SCHEMA
    first = [one for one in events if one["video_id"] == "v1"]
    told = [(one["place"], one["direction"], one["track_id"]) for one in first]
    assert told == [
        ("middle", "in", 1), ("queue", "enter", 1), ("middle", "out", 2), ("queue", "leave", 1)
    ]  # fmt: skip
    crossing, enter, _, leave = first
    assert (crossing["x"], crossing["y"]) == (320, 300)
    assert str(crossing["time"]) == f"2026-05-01 12:00:1{crossing['time_s']:g}00000+00:00"
    assert leave["duration_s"] == pytest.approx(leave["time_s"] - enter["time_s"])
    assert crossing["duration_s"] is None
    assert {one["camera"] for one in events} == {"hall", "yard"}
    assert all(one["time"] is None for one in events if one["camera"] == "yard")
    assert {one["video"] for one in first} == {"/videos/v1.mp4"}


def test_counts_are_null_where_nothing_was_recorded(out, tmp_path):
    count(out, str(tmp_path / "to"), config(), by="hour")
    counts = rows(tmp_path / "to", "counts")
    hall = [c for c in counts if (c["camera"], c["direction"]) == ("hall", "in")]
    assert [(str(c["begin"])[11:16], c["count"], c["recorded_s"]) for c in hall] == [
        ("12:00", 2, 20.0), ("13:00", None, 0.0), ("14:00", 1, 10.0)
    ]  # fmt: skip
    (yard,) = [c for c in counts if (c["camera"], c["direction"]) == ("yard", "in")]
    assert (yard["begin"], yard["begin_s"], yard["count"]) == (None, 0.0, 1)
    inside = [c for c in counts if (c["camera"], c["direction"]) == ("hall", "inside")]
    stays = [e["duration_s"] for e in rows(tmp_path / "to") if e["video_id"] in ("v0", "v1")]
    assert inside[0]["people"] == pytest.approx(np.nansum(np.array(stays, float)) / 20)
    assert [c["most_people"] for c in inside] == [1, None, 1]
    assert [c["count"] for c in inside] == [2, None, 1]
    assert inside[1]["people"] is None


def test_a_folder_with_other_files_is_refused_and_one_of_ours_is_not(out, tmp_path):
    to = tmp_path / "to"
    to.mkdir()
    (to / "events.csv").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; choose another folder"):
        count(out, str(to), config())
    assert (to / "events.csv").read_text() == "mine"
    (to / "events.csv").unlink()
    count(out, str(to), config())
    for name in ("count.json", "events.csv", "events.parquet", "counts.csv", "counts.parquet"):
        (to / name).unlink()  # as if it had been killed
    (to / "counts.html").unlink()
    assert count(out, str(to), config()).num_new == 0
    assert (to / "count.json").exists()


def test_pictures_of_former_places_are_removed(out, tmp_path):
    to = tmp_path / "to"
    count(out, str(to), config(), zone=ZoneInfo("Europe/Berlin"))
    record = json.loads((to / "count.json").read_text())
    assert record["timezone"] == "Europe/Berlin"
    assert {one["name"] for own in record["places"].values() for one in own}
    (to / "preview").mkdir()
    (to / "preview" / "hall.jpg").write_bytes(b"picture")
    count(out, str(to), config(min_visit_s=1.0))
    assert (to / "preview" / "hall.jpg").exists()
    count(out, str(to), config("places: [{name: door, line: [[100, 0], [100, 90]]}]"))
    assert not (to / "preview" / "hall.jpg").exists()


def test_a_damaged_record_of_the_run_is_named(out, tmp_path):
    (out / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        count(out, str(tmp_path / "to"), config())


def test_parquet_csv_and_record_agree(out, tmp_path):
    count(out, str(tmp_path / "to"), config())
    for name in ("events", "counts"):
        table = pq.read_table(tmp_path / "to" / f"{name}.parquet")
        lines = (tmp_path / "to" / f"{name}.csv").read_text().splitlines()
        assert len(lines) == len(table) + 1
        assert lines[0].replace('"', "").split(",") == table.column_names
    record = json.loads((tmp_path / "to" / "count.json").read_text())
    assert record["events"] == len(rows(tmp_path / "to"))
    totals = {(t["camera"], t["direction"]): t["count"] for t in record["totals"]}
    assert totals[("hall", "in")] == 3
    assert record["failed"] == []


def test_a_second_call_counts_only_what_is_new_or_has_changed(out, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MOST_FILES", 1)
    to = tmp_path / "to"
    assert count(out, str(to), config()).num_new == 4
    before = {path.name: path.read_bytes() for path in to.iterdir() if path.is_file()}
    assert count(out, str(to), config()).num_new == 0
    assert {path.name: path.read_bytes() for path in to.iterdir() if path.is_file()} == before
    write_tracks(out, "new", rows_of(*WALKS))
    write_tracks(out, "yard", rows_of(WALKS[0]))
    assert count(out, str(to), config()).num_new == 2
    whole = count(out, str(tmp_path / "other"), config())
    assert rows(to) == rows(tmp_path / "other")
    assert len(list((to / "parts").iterdir())) == len(whole.videos) == 5, "no part is left over"


def test_a_call_that_was_killed_goes_on(out, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MOST_FILES", 1)
    real, calls = run.count_heads, []

    def dying(own, settings):
        calls.append(own)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(own, settings)

    monkeypatch.setattr(run, "count_heads", dying)
    with pytest.raises(KeyboardInterrupt):
        count(out, str(tmp_path / "to"), config())
    assert not (tmp_path / "to" / "events.parquet").exists()
    monkeypatch.setattr(run, "count_heads", real)
    assert count(out, str(tmp_path / "to"), config()).num_new == 2
    count(out, str(tmp_path / "other"), config())
    assert rows(tmp_path / "to") == rows(tmp_path / "other")


def test_a_moved_line_changes_no_other_event(out, tmp_path):
    count(out, str(tmp_path / "to"), config())
    before = rows(tmp_path / "to")
    moved = PLACES.replace("[[0.5, 1.0], [0.5, 0.0]]", "[[0.4, 1.0], [0.4, 0.0]]")
    assert count(out, str(tmp_path / "to"), config(moved)).num_new == 4
    after = rows(tmp_path / "to")
    assert [e for e in after if e["place"] != "middle"] == [
        e for e in before if e["place"] != "middle"
    ]
    assert {e["x"] for e in after if e["place"] == "middle"} == {256.0}


def test_a_damaged_file_is_counted_as_failed_and_the_others_are_counted(out, tmp_path):
    whole = (out / "tracks" / "v1.parquet").read_bytes()
    (out / "tracks" / "v1.parquet").write_bytes(whole[:200])
    (out / "tracks" / "empty.parquet").write_bytes(b"")
    (out / "tracks" / "hole.parquet").write_bytes(whole[:4] + b"\xff" * 1500 + whole[1504:])
    frame, ids, tlbr = rows_of(WALKS[0])
    write_tracks(
        out, "twice", (np.append(frame, 3), np.append(ids, 1), np.vstack([tlbr, tlbr[:1]]))
    )
    for call in range(2):
        counted = count(out, str(tmp_path / "to"), config())
        reasons = {Path(one.file).stem: one.reason for one in counted.failures}
        assert set(reasons) == {"v1", "empty", "hole", "twice"}, call
        assert reasons["twice"] == "got id 1 twice in frame 3, expected one box"
        assert "not a readable Parquet file" in reasons["v1"]
        assert all("\n" not in reason for reason in reasons.values())
        assert {e["video_id"] for e in rows(tmp_path / "to")} == {"v0", "v2", "yard"}
    assert len(json.loads((tmp_path / "to" / "count.json").read_text())["failed"]) == 4


def test_a_file_damaged_inside_is_a_failure_also_if_there_is_no_other(out, tmp_path):
    path = out / "tracks" / "v1.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 1500 + whole[1504:])
    (tmp_path / "alone" / "tracks").mkdir(parents=True)
    shutil.copy(path, tmp_path / "alone" / "tracks")
    counted = count(tmp_path / "alone", str(tmp_path / "to"), config())
    (failure,) = counted.failures
    assert not failure.is_passing
    assert failure.reason.startswith("not a readable Parquet file: ")
    assert len(count(out, str(tmp_path / "of-all"), config()).videos) == 3


def test_a_file_with_a_column_twice_is_a_failure_and_the_others_are_counted(out, tmp_path):
    for name, column in (("v1", "x1"), ("yard", "video")):
        path = out / "tracks" / f"{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.append_column(column, table.column(column)), path)
    counted = count(out, str(tmp_path / "to"), config())
    assert {Path(one.file).stem: one.reason for one in counted.failures} == {
        "v1": "got 2 columns x1, expected one",
        "yard": "got 2 columns video, expected one",
    }
    assert {e["video_id"] for e in rows(tmp_path / "to")} == {"v0", "v2"}


def test_a_file_without_a_size_fails_where_places_are_shares(out, tmp_path):
    path = out / "tracks" / "v1.parquet"
    table = pq.read_table(path)
    kept = {k: v for k, v in table.schema.metadata.items() if k not in (b"width", b"height")}
    pq.write_table(table.replace_schema_metadata(kept), path)
    counted = count(out, str(tmp_path / "to"), config())
    (failure,) = counted.failures
    assert (Path(failure.file).stem, failure.is_passing) == ("v1", False)
    assert failure.reason == "no width and height in its metadata, which places in shares need"
    assert len(counted.videos) == 3
    pixels = config("units: pixels\nplaces: [{name: middle, line: [[320, 360], [320, 0]]}]")
    assert count(out, str(tmp_path / "pixels"), pixels).failures == []
    with pytest.raises(ValueError, match="the size of the picture is unknown; give places in"):
        count(path, str(tmp_path / "alone"), config())


def test_a_store_that_did_not_answer_is_asked_again(out, tmp_path, monkeypatch):
    real = videos.read_sightings

    def failing(file):
        if file.metadata.num_rows == real_rows:
            raise StorageError("the store is down")
        return real(file)

    write_tracks(out, "other", rows_of(WALKS[0]))
    real_rows = len(rows_of(WALKS[0])[0])
    monkeypatch.setattr(videos, "read_sightings", failing)
    counted = count(out, str(tmp_path / "to"), config())
    assert [one.reason for one in counted.failures] == ["the store is down"]
    monkeypatch.setattr(videos, "read_sightings", real)
    assert count(out, str(tmp_path / "to"), config()).failures == []
    assert {e["video_id"] for e in rows(tmp_path / "to")} == {"v0", "v1", "v2", "yard", "other"}


def test_recordings_that_overlap_are_told_in_one_warning(out, tmp_path, caplog):
    write_tracks(out, "twin", rows_of(*WALKS), camera="hall", start="2026-05-01T12:00:05+00:00")
    counted = count(out, str(tmp_path / "to"), config())
    (overlap,) = counted.overlaps
    assert (overlap.camera, overlap.seconds) == ("hall", 10.0)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "recordings of 1 camera overlap (hall: 10 s are covered by more than one)"
    )


def test_videos_of_one_name_in_several_folders_are_told(tmp_path, caplog):
    for number, folder in enumerate(("door", "yard", "yard")):
        path = write_tracks(tmp_path / "out", f"may-1-0123456789abcde{number}", rows_of(*WALKS))
        table = pq.read_table(path)
        video = pa.array([f"/videos/{folder}/may-1.mp4"] * len(table)).dictionary_encode()
        place = table.column_names.index("video")
        pq.write_table(table.set_column(place, "video", video), path)
        count(tmp_path / "out", str(tmp_path / "to"), config())
        assert len(caplog.records) == min(number, 1), folder
        caplog.clear()
    write_tracks(tmp_path / "out", "may-1-0123456789abcde0", rows_of(*WALKS), camera="door")
    count(tmp_path / "out", str(tmp_path / "to"), config())
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLACES.replace("name: middle", "name: middle, camera: hal"), "did you mean hall?"),
        (PLACES.replace("units: shares", "units: pixels").replace("0.95", "500"), "is outside"),
    ],
)
def test_places_that_do_not_fit_are_refused_before_work(out, tmp_path, text, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        count(out, str(tmp_path / "to"), config(text))
    assert not (tmp_path / "to").exists()


def test_tracks_elsewhere_and_folders_that_hold_none_are_refused(out, tmp_path):
    with pytest.raises(ValueError, match="choose another folder"):
        count(out, str(out), config())
    (tmp_path / "mot").mkdir()
    (tmp_path / "mot" / "a.txt").write_text("1,1,1,1,1,1,1,-1,-1,-1\n")
    with pytest.raises(ValueError, match="expected OUT of a run or its Parquet files"):
        count(tmp_path / "mot", str(tmp_path / "to"), config())
    with pytest.raises(ValueError, match="does not exist"):
        count(tmp_path / "nowhere", str(tmp_path / "to"), config())


def test_a_place_of_tracks_by_another_name_is_refused(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    before = sorted(out.rglob("*"))
    pairs = [(out, "link"), (out, "out/tracks"), (out / "tracks", "out"), (out, "run")]
    for source, to in pairs:
        with pytest.raises(ValueError, match="choose another folder"):
            count(source, str(tmp_path / to), config())
    assert sorted(out.rglob("*")) == before


def test_files_of_others_below_parts_are_kept(out, tmp_path):
    count(out, str(tmp_path / "to"), config())
    own = tmp_path / "to" / "parts" / "bolts" / "m3.step"
    own.parent.mkdir()
    own.write_text("drawing")
    count(out, str(tmp_path / "to"), config(min_visit_s=1.0))
    assert own.read_text() == "drawing"
    assert len(list((tmp_path / "to" / "parts").glob("*.parquet"))) == 1


def test_a_run_without_people_has_tables_without_events(tmp_path):
    empty = tuple(column[:0] for column in rows_of(WALKS[0]))
    write_tracks(tmp_path / "out", "a", empty, camera="hall", start="2026-05-01T12:00:00+00:00")
    count(tmp_path / "out", str(tmp_path / "to"), config())
    assert rows(tmp_path / "to") == []
    assert {c["count"] for c in rows(tmp_path / "to", "counts")} == {0}
    assert {c["recorded_s"] for c in rows(tmp_path / "to", "counts")} == {10.0}
    assert (tmp_path / "to" / "counts.html").exists()


def test_joined_tracks_cross_where_two_pieces_would_not(tmp_path):
    pieces = ((1, 0, 20, (100, 300), (310, 300)), (2, 25, 40, (340, 300), (500, 300)))
    write_tracks(tmp_path / "out", "a", rows_of(*pieces))
    count(tmp_path / "out", str(tmp_path / "to"), config())
    assert [e for e in rows(tmp_path / "to") if e["place"] == "middle"] == []
    count(tmp_path / "out", str(tmp_path / "to"), config(join_s=1.0))
    (crossing,) = [e for e in rows(tmp_path / "to") if e["place"] == "middle"]
    assert (crossing["track_id"], crossing["direction"]) == (1, "in")


def test_the_rows_equal_those_of_a_live_counter(out, tmp_path):
    count(out, str(tmp_path / "to"), config())
    settings = config()
    places = settings.places.of_camera("hall", SIZE)
    counter = Counter(places.places, settings.rules)
    frame, ids, tlbr = rows_of(*WALKS)
    live = []
    for one in np.unique(frame):
        live += counter.update(int(one), one / 10, ids[frame == one], tlbr[frame == one])
    live = sorted(live + counter.close())
    told = [
        (e.frame, e.track_id, places.names[e.place], places.directions[e.place][e.direction],
         e.time_s, e.x, e.y)
        for e in live
    ]  # fmt: skip
    names = ("frame", "track_id", "place", "direction", "time_s", "x", "y")
    own = [e for e in rows(tmp_path / "to") if e["video_id"] == "v0"]
    assert [tuple(e[name] for name in names) for e in own] == told
    assert len(told) > 3 > len(DIRECTIONS) - 4


@pytest.mark.ray
def test_ray_tasks_write_the_same_tables(out, tmp_path, monkeypatch, ray_cluster):
    monkeypatch.setattr(plan, "MOST_FILES", 2)
    count(out, str(tmp_path / "here"), config())
    count(out, str(tmp_path / "there"), config(), address=ray_cluster)
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert rows(tmp_path / "there", "counts") == rows(tmp_path / "here", "counts")


class Renamed(LocalStore):
    """A folder that calls itself a bucket."""

    def __init__(self, folder, uri):
        super().__init__(folder)
        self._uri = uri

    @property
    def uri(self):
        return self._uri


def test_tracks_and_tables_may_lie_in_a_bucket(out, tmp_path, monkeypatch):
    def bucket(uri):
        return Renamed(tmp_path / str(uri).removeprefix("s3://bucket/"), str(uri))

    from jde_ray.pipelines.counting import page

    for module in (heads, run, page, saved_tracks):
        monkeypatch.setattr(module, "open_store", bucket)
    counted = count("s3://bucket/out", "s3://bucket/to", config())
    assert (len(counted.videos), counted.out) == (4, "s3://bucket/to")
    monkeypatch.undo()
    count(out, str(tmp_path / "here"), config())
    assert rows(tmp_path / "to") == rows(tmp_path / "here")


def test_a_part_that_is_none_is_named(out, tmp_path):
    count(out, str(tmp_path / "to"), config())
    (part,) = (tmp_path / "to" / "parts").iterdir()
    content = part.read_bytes()
    again = Part.from_bytes(content)
    assert Part.from_bytes(again.to_bytes()).events == again.events
    assert {name: cells.sum() for name, cells in again.heat.items()} == {
        "hall": 3 * len(rows_of(*WALKS)[0]), "yard": len(rows_of(*WALKS)[0])
    }  # fmt: skip
    pq.write_table(pa.table({"a": [1]}), part)
    with pytest.raises(ValueError, match=r"not a part of a count .* remove it"):
        count(out, str(tmp_path / "to"), config())
    shutil.rmtree(tmp_path / "to" / "parts")
    count(out, str(tmp_path / "to"), config())


@pytest.mark.parametrize(
    "settings", [{"join_s": -1}, {"join_s": float("nan")}, {"min_visit_s": 1e9}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"got .*, expected 0 to"):
        config(**settings)

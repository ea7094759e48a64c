import json

import pyarrow.parquet as pq
import pytest
from counted_tracks import PLACES, WALKS, rows_of, write_tracks

from jde_ray.jobs.cli import run


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = "2026-05-01T12:00:00+00:00"
    write_tracks(tmp_path / "out", "v0", rows_of(*WALKS), camera="hall", start=start)
    write_tracks(tmp_path / "out", "v1", rows_of(*WALKS))
    (tmp_path / "places.yaml").write_text(PLACES)
    return tmp_path


USUAL = ["count", "out", "--config", "places.yaml", "--to", "to"]


def test_totals_are_printed_and_tables_written(place, capsys):
    assert run([*USUAL, "--by", "minute", "--timezone", "Europe/Berlin"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[:2] == ["hall / middle: in 1, out 1", "hall / queue: enter 1, leave 1"]
    assert output[-1] == f"8 events of 2 videos; written to {place / 'to'}"
    names = {path.name for path in (place / "to").iterdir()}
    assert names == {
        "parts", "events.parquet", "events.csv", "counts.parquet", "counts.csv", "counts.html",
        "count.json",
    }  # fmt: skip


def test_a_direction_of_a_line_may_be_called_inside(place, capsys):
    text = PLACES.replace("to_right: in,", "to_right: inside,").replace(
        "to_left: out", "to_left: leave"
    )
    (place / "places.yaml").write_text(text)
    assert run([*USUAL, "--by", "minute"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "hall / middle: inside 1, leave 1"
    totals = json.loads((place / "to" / "count.json").read_text())["totals"]
    names = {(one["place"], one["direction"]) for one in totals}
    assert names == {
        ("middle", "inside"),
        ("middle", "leave"),
        ("queue", "enter"),
        ("queue", "leave"),
    }


def test_days_begin_in_the_time_zone_also_by_its_offset(place):
    for zone, begin in (("+05:30", "2026-04-30T18:30"), ("Europe/Berlin", "2026-04-30T22:00")):
        assert run([*USUAL, "--by", "day", "--timezone", zone]) == 0
        counts = pq.read_table(place / "to" / "counts.parquet").to_pylist()
        assert {c["begin"].isoformat()[:16] for c in counts if c["camera"] == "hall"} == {begin}


def test_a_damaged_file_is_one_line_and_exit_code_3(place, capsys):
    (place / "out" / "tracks" / "v1.parquet").write_bytes(b"PAR1")
    assert run(USUAL) == 3
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("failed: ")
    assert "v1.parquet: not a readable Parquet file: " in line
    assert "4 events of 1 video, 1 failed" in output.out
    assert len(json.loads((place / "to" / "count.json").read_text())["failed"]) == 1


def test_a_file_in_the_way_is_told(place, capsys):
    (place / "to").write_text("mine")
    assert run(USUAL) == 2
    expected = f"to: got {place / 'to'}, where a file is in the way; expected a folder"
    assert expected in capsys.readouterr().err


def test_previews_may_be_of_several_sources(place, capsys):
    assert run([*USUAL, "--preview", "a.mp4", "--preview", "b.mp4"]) == 2
    assert "a.mp4 does not exist (and 1 more)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (PLACES.replace("zone:", "zon:"), [], "places.yaml: place 2: got 'zon', expected "),
        (PLACES.replace("middle", "middle, camera: hal"), [], "no video is of camera 'hal'"),
        (PLACES.replace("0.95]]", "1.95]]"), [], "queue: (0.7, 1.95) is outside the picture"),
        (PLACES, ["--timezone", "Mars"], "timezone: got 'Mars', expected a name such as"),
        (PLACES, ["--timezone", "../x"], "timezone: got '../x'"),
        (PLACES, ["--min-visit", "-1"], "min-visit: got -1"),
        (PLACES, ["--join", "nan"], "join: got nan, expected 0 to 3600 seconds"),
        (PLACES, ["--to", "out"], "to: out is where the tracks are"),
        (PLACES, ["--preview", "nothing.mp4"], "nothing.mp4"),
        (None, [], "places.yaml cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_counted_is_one_line_and_exit_code_2(place, capsys, text, more, message):
    if text is None:
        (place / "places.yaml").unlink()
    else:
        (place / "places.yaml").write_text(text)
    assert run([*USUAL, *more]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert message in line
    assert not (place / "to" / "events.parquet").exists()

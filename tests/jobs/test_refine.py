import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.jobs.cli import run


@pytest.fixture
def results(tmp_path):
    (tmp_path / "sort").mkdir()
    lines = [f"{f},7,{f},1,10,20,1,-1,-1,-1\n" for f in (1, 2, 5, 6)] + ["1,9,50,1,9,9,1,-1,-1,-1"]
    (tmp_path / "sort" / "SEQ.txt").write_text("".join(lines))
    return tmp_path


def test_what_was_done_is_said(results, capsys):
    arguments = ["refine", str(results / "sort"), "--out", str(results / "new"), "--smooth"]
    assert run([*arguments, "--interpolate", "9", "--min-track-length", "2"]) == 0
    output = capsys.readouterr().out
    assert "SEQ: 2 tracks became 1, 5 rows 6" in output
    assert (results / "new" / "tracks" / "SEQ.txt").read_text().count("\n") == 6


def test_without_a_step_those_that_pay_are_taken(results, capsys):
    arguments = ["refine", str(results / "sort"), "--out", str(results / "new")]
    assert run([*arguments, "--relink-distance", ".5"]) == 0
    output = capsys.readouterr()
    assert "SEQ: 2 tracks became 2, 5 rows 7" in output.out
    assert output.err == "note: --relink-distance has no effect; each video sets its own scale\n"
    record = json.loads((results / "new" / "run.json").read_text())
    assert record["config"]["refined"]["smooth"]
    assert record["config"]["refined"]["relink"]["max_gap_s"] == 1e6


def test_columns_that_become_empty_are_named(tmp_path, capsys):
    (tmp_path / "tracks").mkdir()
    rows = {"frame": [0, 1], "track_id": [1, 1], "x1": [0.0, 1.0], "y1": [0.0, 0.0]}
    rows |= {"x2": [9.0, 9.0], "y2": [9.0, 9.0], "shirt": ["red", "red"]}
    pq.write_table(pa.table(rows), tmp_path / "tracks" / "a.parquet")
    assert run(["refine", str(tmp_path), "--out", str(tmp_path / "new"), "--smooth"]) == 0
    assert "columns that jde track does not write are empty there: shirt" in capsys.readouterr().out


def test_a_file_that_cannot_be_refined_is_a_failure_and_the_others_are_refined(results, capsys):
    (results / "sort" / "BAD.txt").write_text("1,7,x\n")
    arguments = ["refine", str(results / "sort"), "--out", str(results / "new")]
    assert run(arguments) == 3
    output = capsys.readouterr()
    assert "SEQ: 2 tracks became 2, 5 rows 7" in output.out
    assert output.out.endswith("new; 1 video failed\n")
    assert output.err == f"failed: {results}/sort/BAD.txt:1: got '1,7,x', expected numbers\n"
    assert [path.name for path in (results / "new" / "tracks").iterdir()] == ["SEQ.txt"]
    (results / "sort" / "SEQ.txt").unlink()
    assert run(arguments) == 2  # nothing else can be refined
    assert "BAD.txt:1: got '1,7,x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--interpolate", "-3"], "interpolate: got -3"),
        (["--relink-gap", "-1"], "relink: got gap -1"),
    ],
    ids=["range", "limits"],
)
def test_what_cannot_be_done_is_one_line_and_code_2(results, capsys, more, message):
    assert run(["refine", str(results / "sort"), "--out", str(results / "new"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

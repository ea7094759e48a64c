import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import run


@pytest.fixture
def finished_run(tmp_path):
    out, gt = tmp_path / "out", tmp_path / "gt" / "SEQ" / "gt"
    (out / "tracks").mkdir(parents=True)
    gt.mkdir(parents=True)
    columns = ("frame", "track_id", "x1", "y1", "x2", "y2")
    rows = np.array([[0, 1, 0, 0, 10, 20], [1, 1, 1, 0, 11, 20]], float).T
    pq.write_table(
        pa.table(dict(zip(columns, rows, strict=True))), out / "tracks" / "SEQ-00000000.parquet"
    )
    (gt / "gt.txt").write_text("1,1,1,1,10,20,1,1,1\n2,1,2,1,10,20,1,1,1\n")
    return tmp_path


def test_scores_are_printed_and_written(finished_run, capsys):
    where = finished_run / "scores.json"
    arguments = ["eval", str(finished_run / "out"), "--gt", str(finished_run / "gt")]
    assert run([*arguments, "--json", str(where)]) == 0
    assert "OVERALL" in capsys.readouterr().out
    assert json.loads(where.read_text())["SEQ"]["mota"] == 1.0


def broken_truth(root):
    (root / "gt" / "SEQ" / "gt" / "gt.txt").write_text("1,1,hello,1,10,20,1,1,1\n")
    return root / "out"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: root / "nothing", "no Parquet file"),
        (broken_truth, "gt.txt:1"),
    ],
    ids=["no tracks", "broken truth"],
)
def test_what_cannot_be_scored_is_one_line_and_code_2(finished_run, capsys, prepare, message):
    out = prepare(finished_run)
    assert run(["eval", str(out), "--gt", str(finished_run / "gt")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jde: error: ")
    assert message in error
    assert error.count("\n") == 1

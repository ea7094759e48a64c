import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.jobs.cli import run
from jde_ray.models.metrics.tracking import COUNTS, RATIOS

LINES = "1,1,1,1,10,20,1,-1,-1,-1\n2,1,2,1,10,20,1,-1,-1,-1\n"


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


def evaluate(root, *more, tracks="out"):
    return run(["eval", str(root / tracks), "--gt", str(root / "gt"), *map(str, more)])


def test_scores_are_printed_and_written(finished_run, capsys):
    files = finished_run / "scores.json", finished_run / "scores.csv"
    assert evaluate(finished_run, "--json", files[0], "--csv", files[1]) == 0
    output = capsys.readouterr().out
    for title in (*RATIOS, *COUNTS, "SEQ", "OVERALL"):
        assert title in output
    written = json.loads(files[0].read_text())
    assert written["sequences"]["SEQ"]["MOTA"] == written["overall"]["MOTA"] == 100.0
    assert written["without_ground_truth"] == []
    with files[1].open() as file:
        lines = list(csv.DictReader(file))
    assert [line["sequence"] for line in lines] == ["SEQ", "OVERALL"]
    assert float(lines[0]["HOTA"]) == pytest.approx(100)
    assert lines[1]["FN"] == "0"


def test_a_run_in_a_store_is_scored(finished_run, capsys):
    place = (finished_run / "out").as_uri()
    gt = ["--gt", str(finished_run / "gt")]
    assert run(["eval", place, *gt]) == 0
    assert "100.0" in capsys.readouterr().out
    assert run(["eval", place, *gt, "--address", "auto"]) == 2
    assert "tracks of a store are scored here" in capsys.readouterr().err
    assert run(["eval", place + "/tracks", *gt]) == 2
    assert "tracks: no Parquet file" in capsys.readouterr().err


def test_mot_text_of_any_tracker_is_scored(finished_run, capsys):
    (finished_run / "sort").mkdir()
    (finished_run / "sort" / "SEQ.txt").write_text(LINES)
    assert evaluate(finished_run, tracks="sort") == 0
    assert "100.0" in capsys.readouterr().out
    file, gt = finished_run / "sort" / "SEQ.txt", finished_run / "gt" / "SEQ" / "gt" / "gt.txt"
    assert run(["eval", str(file), "--gt", str(gt)]) == 0


def test_an_empty_result_has_recall_0(finished_run, capsys):
    (finished_run / "sort").mkdir()
    (finished_run / "sort" / "SEQ.txt").write_text("")
    where = finished_run / "scores.json"
    assert evaluate(finished_run, "--json", where, tracks="sort") == 0
    assert json.loads(where.read_text())["overall"]["Rcll"] == 0


def test_a_sequence_without_truth_is_refused_or_left_out_and_said(finished_run, capsys):
    (finished_run / "sort").mkdir()
    for name in ("SEQ", "OTHER"):
        (finished_run / "sort" / f"{name}.txt").write_text(LINES)
    assert evaluate(finished_run, tracks="sort") == 2
    error = capsys.readouterr().err
    assert "gt: no OTHER/gt/gt.txt" in error
    assert "--skip-missing" in error
    where = finished_run / "scores.json"
    assert evaluate(finished_run, "--skip-missing", "--json", where, tracks="sort") == 0
    assert "OTHER (no ground truth)" in capsys.readouterr().out
    assert json.loads(where.read_text())["without_ground_truth"] == ["OTHER"]
    (finished_run / "sort" / "SEQ.txt").unlink()
    assert evaluate(finished_run, "--skip-missing", tracks="sort") == 2


def test_truth_without_tracks_is_said(finished_run, capsys):
    (finished_run / "gt" / "MORE" / "gt").mkdir(parents=True)
    (finished_run / "gt" / "MORE" / "gt" / "gt.txt").write_text("1,1,1,1,10,20,1,1,1\n")
    assert evaluate(finished_run) == 0
    assert "ground truth without tracks, not scored: MORE" in capsys.readouterr().err


def broken_truth(root):
    (root / "gt" / "SEQ" / "gt" / "gt.txt").write_text("1,1,hello,1,10,20,1,1,1\n")
    return "out"


def broken_result(text):
    def prepare(root):
        (root / "sort").mkdir()
        (root / "sort" / "SEQ.txt").write_text(text)
        return "sort"

    return prepare


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: "nothing", "nothing does not exist"),
        (broken_truth, "gt.txt:1"),
        (broken_result("1,1,1,1,10,20,1,1,1\n"), "SEQ.txt:1: got 9 columns"),
        (broken_result("0,1,1,1,10,20,1,-1,-1,-1\n"), "SEQ.txt:1"),
        (broken_result(LINES + "1,1,9,9,10,20,1,-1,-1,-1\n"), "SEQ.txt:3: got id 1 twice"),
        (broken_result("1,1,nan,1,10,20,1,-1,-1,-1\n"), "SEQ.txt:1"),
    ],
    ids=["no tracks", "broken truth", "9 columns", "frame 0", "duplicate", "nan"],
)
def test_what_cannot_be_scored_is_one_line_and_code_2(finished_run, capsys, prepare, message):
    (finished_run / "gt" / "MORE.gt.txt").write_text("1,1,1,1,10,20,1,1,1\n")
    assert evaluate(finished_run, tracks=prepare(finished_run)) == 2
    error = capsys.readouterr().err
    assert error.startswith("jde: error: ")
    assert message in error
    assert error.count("\n") == 1  # also where some truth has no tracks


def test_unknown_rules_are_refused(finished_run, capsys):
    assert evaluate(finished_run, "--benchmark", "MOT99") == 2
    assert "expected auto | MOT15" in capsys.readouterr().err
    assert evaluate(finished_run, "--min-visibility", "3") == 2
    assert "min-visibility: got 3" in capsys.readouterr().err


def test_a_page_shows_the_table_and_charts_and_escapes_names(finished_run):
    (finished_run / "sort").mkdir()
    for name in ("SEQ", "<b>"):
        (finished_run / "sort" / f"{name}.txt").write_text(LINES)
    page = finished_run / "scores.html"
    assert evaluate(finished_run, "--skip-missing", "--html", page, tracks="sort") == 0
    text = page.read_text()
    assert text.count("<svg") == 4
    assert "<b>100.0</b><span>HOTA</span>" in text
    assert "&lt;b&gt; (no ground truth)" in text
    assert "<b> " not in text
    assert "<td><b>" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_file_that_cannot_be_written_is_one_line(finished_run, capsys):
    assert evaluate(finished_run, "--json", finished_run / "no" / "scores.json") == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.fixture
def saved_detections(finished_run):
    vectors = np.eye(4, dtype=np.float16)
    table = {
        "frame": pa.array([0, 1], pa.int32()),
        "boxes": pa.array([[[0.0, 0, 10, 20]], [[1.0, 0, 11, 20], [90.0, 0, 95, 9]]]),
        "scores": pa.array([[0.9], [0.8, 0.7]]),
        "embeddings": pa.array([[vectors[0].tobytes()], [vectors[0].tobytes(), b"\0" * 8]]),
    }
    (finished_run / "out" / "detections").mkdir()
    pq.write_table(pa.table(table), finished_run / "out" / "detections" / "SEQ-00000000.parquet")
    return finished_run


def test_detections_have_an_average_precision(saved_detections, capsys):
    files = saved_detections / "ap.json", saved_detections / "ap.html"
    assert evaluate(saved_detections, "--detections", "--json", files[0], "--html", files[1]) == 0
    assert "AP of images" in capsys.readouterr().out
    written = json.loads(files[0].read_text())
    assert written["overall"]["AP"] == written["overall"]["AP of images"] == 100
    assert written["overall"]["Prcn"] == pytest.approx(200 / 3)
    assert written["curves"]["recall"] == [0.5, 1, 1]
    assert "Precision over recall" in files[1].read_text()


def test_public_detections_of_a_tree_go_by_their_sequence(finished_run, capsys):
    place = finished_run / "gt" / "SEQ" / "det"
    place.mkdir()
    (place / "det_dpm.txt").write_text("1,-1,1,1,10,20,1.5\n2,-1,2,1,10,20,0.7\n")
    for tracks in ("gt", "gt/SEQ", "gt/SEQ/det/det_dpm.txt"):
        assert evaluate(finished_run, "--detections", tracks=tracks) == 0
        (line,) = (one for one in capsys.readouterr().out.splitlines() if "SEQ" in one)
        assert line.split()[:2] == ["SEQ", "100.0"]
    (place / "det_frcnn.txt").write_text("")
    assert evaluate(finished_run, "--detections", tracks="gt") == 2
    assert "has det_dpm.txt, det_frcnn.txt; name one of them" in capsys.readouterr().err


def test_a_detector_without_embeddings_has_an_average_precision(saved_detections, capsys):
    path = saved_detections / "out" / "detections" / "SEQ-00000000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["embeddings"]), path)
    assert evaluate(saved_detections, "--detections") == 0
    assert "100.0" in capsys.readouterr().out
    assert evaluate(saved_detections, "--embeddings") == 2
    assert "no embeddings, expected files of detections/" in capsys.readouterr().err


def test_a_run_of_some_frames_is_scored_on_them_and_says_so(saved_detections, capsys):
    gt = saved_detections / "gt" / "SEQ" / "gt" / "gt.txt"
    gt.write_text(gt.read_text() + "".join(f"{n},1,2,1,10,20,1,1,1\n" for n in range(3, 9)))
    record = saved_detections / "out" / "run.json"
    record.write_text(json.dumps({"config": {"max_frames": 2, "vid_stride": 1}}))
    where = saved_detections / "scores.json"
    gt_of = ["--gt", str(saved_detections / "gt")]
    for place in (saved_detections / "out", (saved_detections / "out").as_uri()):
        for kind, figure in (((), "MOTA"), (["--detections"], "AP")):
            assert run(["eval", str(place), *gt_of, *kind, "--json", str(where)]) == 0
            assert json.loads(where.read_text())["overall"][figure] == 100
            said = "jde: scored on the frames that the run processed: SEQ (the first 2)"
            assert said in capsys.readouterr().err
    record.unlink()
    assert evaluate(saved_detections, "--json", where) == 0
    assert json.loads(where.read_text())["overall"]["MOTA"] == 25
    assert not capsys.readouterr().err


def test_embeddings_have_rates_and_null_where_there_is_nobody_else(saved_detections, capsys):
    files = saved_detections / "tpr.json", saved_detections / "tpr.html"
    assert evaluate(saved_detections, "--embeddings", "--json", files[0], "--html", files[1]) == 0
    assert "TPR@1e-6" in capsys.readouterr().out
    overall = json.loads(files[0].read_text())["overall"]
    assert (overall["embeddings"], overall["people"], overall["TPR@1e-1"]) == (2, 1, None)
    assert evaluate(saved_detections, "--embeddings", "--detections") == 2
    assert "expected one" in capsys.readouterr().err


def test_a_run_without_saved_detections_says_where_it_looked(finished_run, capsys):
    assert evaluate(finished_run, "--detections") == 2
    assert "detections: no Parquet file" in capsys.readouterr().err


def test_a_network_is_read_only_with_embeddings_and_at_a_size(finished_run, capsys):
    assert evaluate(finished_run, "--weights", "small") == 2
    assert "expected it with --detections or --embeddings" in capsys.readouterr().err
    assert evaluate(finished_run, "--embeddings", "--weights", "small", "--size", "big") == 2
    assert "size: got 'big', expected WIDTHxHEIGHT" in capsys.readouterr().err
    assert evaluate(finished_run, "--embeddings", "--weights", "small", tracks="nowhere") == 2
    assert "nowhere" in capsys.readouterr().err

import csv
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.jobs.cli import run
from jde_ray.models.metrics.tracking import COUNTS, RATIOS
from jde_ray.pipelines.report.canvas import PALETTE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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


def test_json_may_go_to_standard_output_and_nothing_else_does(finished_run, capsys, monkeypatch):
    monkeypatch.chdir(finished_run)
    assert evaluate(finished_run, "--json", "-") == 0
    output, said = capsys.readouterr()
    assert json.loads(output)["overall"]["MOTA"] == 100
    assert "OVERALL" in said
    assert not (finished_run / "-").exists()


@pytest.mark.parametrize("more", [[], ["--detections"]])
def test_ground_truth_without_people_is_said(saved_detections, capsys, more):
    (truth,) = (saved_detections / "gt").glob("**/gt.txt")
    truth.write_text("1,1,1,1,10,20,0,3,1\n2,1,1,1,10,20,0,3,1\n")  # cars
    assert evaluate(saved_detections, *more) == 0
    said = capsys.readouterr().err
    assert said == (
        "jde: the ground truth has no person in the frames that are scored, so nothing can be"
        " found\n"
    )


def test_a_run_in_a_store_is_scored(finished_run, capsys):
    place = (finished_run / "out").as_uri()
    gt = ["--gt", str(finished_run / "gt")]
    assert run(["eval", place, *gt]) == 0
    assert "100.0" in capsys.readouterr().out
    assert run(["eval", place, *gt, "--address", "auto"]) == 2
    assert "tracks in a store are scored locally" in capsys.readouterr().err
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
    assert "nor such a file" not in error
    (finished_run / "sort" / "THIRD.txt").write_text(LINES)
    assert evaluate(finished_run, tracks="sort") == 2
    assert "OTHER.coco.json below" in (error := capsys.readouterr().err)
    assert ", nor such a file for THIRD; --skip-missing" in error
    (finished_run / "sort" / "THIRD.txt").unlink()
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
    record.write_text(json.dumps({"config_hash": "0", "config": {"max_frames": 2}}))
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


NUM_SEQUENCES = 4


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Ground truth of four sequences, and three results: all found, the same again, and less."""
    boxes = [f"{frame},1,{frame},1,10,20,1," for frame in range(1, 7)]
    for number in range(NUM_SEQUENCES):
        name = f"S{number}"
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        gt = "".join(f"{box}1,1\n" for box in boxes)
        (tmp_path / "gt" / name / "gt" / "gt.txt").write_text(gt)
        tracks = [f"{box}-1,-1,-1\n" for box in boxes]
        kept = {"all": tracks, "same": tracks, "less": tracks[: number + 2]}
        for result, lines in kept.items():
            (tmp_path / result / "data").mkdir(parents=True, exist_ok=True)
            (tmp_path / result / "data" / f"{name}.txt").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def side_by_side(*more, names=("all", "same", "less")):
    return run(["eval", *names, "--gt", "gt", *map(str, more)])


def test_several_results_are_scored_side_by_side(results, capsys):
    assert side_by_side("--json", "scores.json", "--csv", "scores.csv") == 0
    output, said = capsys.readouterr()
    assert not said
    lines = {line.split()[0]: line.split() for line in output.splitlines() if line.strip()}
    assert next(iter(lines)) == "result"
    assert not {"S0", "OVERALL"} & set(lines)  # nothing per sequence unless asked
    rows = [line.split() for line in output.splitlines() if line.split()[:1] == ["all"]]
    assert len(rows) == 1  # the first result is compared with itself nowhere
    assert rows[0][1] == "100.0*"
    assert "95 % intervals from 2000 resamples of the 4 sequences" in output
    written = json.loads((results / "scores.json").read_text())
    assert list(written["results"]) == ["all", "same", "less"]
    assert written["results"]["less"]["tracks"] == "less"
    assert written["results"]["all"]["overall"]["MOTA"] == 100
    assert list(written["results"]["less"]["sequences"]) == ["S0", "S1", "S2", "S3"]
    found = written["differences"]
    assert (found["from"], found["confidence"], found["resamples"]) == ("all", 0.95, 2000)
    for one in found["results"]["same"].values():
        assert one == {"value": 0, "low": 0, "high": 0}
    gap = found["results"]["less"]["MOTA"]
    assert gap["low"] < gap["value"] < gap["high"] < 0
    assert gap["value"] == written["results"]["less"]["overall"]["MOTA"] - 100
    with (results / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(line["result"], line["sequence"]) for line in table[4:6]] == [
        ("all", "OVERALL"),
        ("same", "S0"),
    ]
    assert len(table) == 3 * (NUM_SEQUENCES + 1)


def test_several_results_may_go_to_standard_output_as_json(results, capsys):
    assert side_by_side("--json", "-") == 0
    output, said = capsys.readouterr()
    assert list(json.loads(output)["results"]) == ["all", "same", "less"]
    assert "result" in said


def test_results_in_a_store_stand_beside_those_of_a_folder(results, capsys):
    place = (results / "less").as_uri()
    (results / "less" / "data").rename(results / "less" / "tracks")
    assert side_by_side("--json", "scores.json", names=("all", place)) == 0
    written = json.loads((results / "scores.json").read_text())
    assert list(written["results"]) == ["all", "less"]
    assert written["results"]["less"]["tracks"] == place
    assert side_by_side("--address", "auto", names=("all", place)) == 2
    assert "tracks in a store are scored locally" in capsys.readouterr().err


def test_the_same_call_gives_the_same_intervals(results):
    for name in ("a", "b"):
        assert side_by_side("--json", f"{name}.json", "--html", f"{name}.html") == 0
    for suffix in ("json", "html"):
        assert (results / f"a.{suffix}").read_text() == (results / f"b.{suffix}").read_text()


def test_sequences_are_shown_on_demand(results, capsys):
    assert side_by_side("--per-sequence", names=("less", "all")) == 0
    shown = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["S0", "less"] in shown
    assert ["OVERALL", "less"] in shown
    assert side_by_side("--per-sequence", names=("all",)) == 0  # as without
    alone = capsys.readouterr().out
    assert side_by_side(names=("all",)) == 0
    assert capsys.readouterr().out == alone


def test_a_terminal_shows_the_best_in_bold(results, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert side_by_side() == 0
    output = capsys.readouterr().out
    assert "\x1b[1m100.0\x1b[0m" in output
    assert "*" not in output
    plain = re.sub(r"\x1b\[[\d;]*m", "", output)
    tables = [line for line in plain.splitlines() if line.split()[:1] == ["result"]]
    assert len(tables) == 5  # three of figures, two of differences
    assert all(len(line.rstrip()) <= 80 for line in plain.splitlines() if "resamples" not in line)


def test_a_terminal_without_styles_has_stars(results, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert side_by_side() == 0
    output = capsys.readouterr().out
    assert "100.0*" in output
    assert "\x1b" not in output


def test_one_sequence_of_two_files_goes_by_its_ground_truth(results, capsys):
    for name in ("all", "less"):
        (results / name / "data" / "S1.txt").rename(results / f"{name}.txt")
    truth = "gt/S1/gt/gt.txt"
    assert run(["eval", "all.txt", "less.txt", "--gt", truth, "--per-sequence"]) == 0
    output = capsys.readouterr().out
    assert ["S1", "all"] in [line.split()[:2] for line in output.splitlines()]
    assert "1 sequence is too few to estimate an interval from" in output


def test_what_is_not_in_all_results_is_said_and_left_out(results, capsys):
    (results / "less" / "data" / "S3.txt").unlink()
    for name in ("all", "same", "less"):
        (results / name / "data" / "S2.txt").unlink()
    assert side_by_side("--json", "scores.json") == 0
    output, said = capsys.readouterr()
    assert "jde: ground truth without tracks, not scored: S2\n" in said
    assert "jde: not in all results, not compared: S3 (not in less)\n" in said
    assert "2 sequences are too few to estimate an interval from" in output
    assert "[" not in output
    written = json.loads((results / "scores.json").read_text())
    assert written["not_in_all_results"] == {"S3": ["less"]}
    assert written["differences"]["resamples"] == 0
    assert written["differences"]["results"]["less"]["HOTA"]["low"] is None
    assert list(written["results"]["all"]["sequences"]) == ["S0", "S1"]


def test_a_sequence_without_truth_is_refused_side_by_side_too(results, capsys):
    (results / "same" / "data" / "X.txt").write_text("")
    assert side_by_side() == 2
    assert "gt: no X/gt/gt.txt" in capsys.readouterr().err
    assert side_by_side("--skip-missing", "--json", "scores.json") == 0
    assert "jde: without ground truth, not scored: X\n" in capsys.readouterr().err
    assert json.loads((results / "scores.json").read_text())["without_ground_truth"] == ["X"]


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (("all", "./all"), (), "tracks: got ./all twice, expected different results"),
        (("all", "nix"), (), "tracks: nix does not exist"),
        (("all", "less"), ("--detections",), "detections: got 2 results, expected one"),
        (("all", "less"), ("--embeddings",), "embeddings: got 2 results, expected one"),
        (("all", "less"), ("--json", "no/x.json"), "cannot write: "),
        (("all", "wrong"), (), "wrong/S0.txt:1"),
        (("all", "only"), (), "no sequence is in all results, got all: S0, S1; only: S3"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_cannot_be_compared_is_one_line_and_code_2(results, capsys, names, more, message):
    for name, text in (("wrong/S0", "0,1,1,1,10,20,1,-1,-1,-1\n"), ("only/S3", "")):
        (results / name).parent.mkdir()
        (results / f"{name}.txt").write_text(text)
    for number in (2, 3):
        (results / "all" / "data" / f"S{number}.txt").unlink()
    assert side_by_side(*more, names=names) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert len([line for line in error.splitlines() if "error" in line]) == 1


def test_help_shows_that_several_results_are_taken(capsys):
    assert run(["eval", "--help"]) == 0
    said = " ".join(re.sub(r"[│\n]", " ", capsys.readouterr().out).split())
    assert "jde eval [OPTIONS] {TRACKS}..." in said
    assert "--per-sequence" in said
    assert "compared with the first" in said


def test_the_page_of_several_results_has_their_tables_charts_and_notes(results):
    (results / "less" / "data" / "S3.txt").unlink()
    (results / "all").rename("<i>all")
    assert side_by_side("--html", "page.html", names=("<i>all", "less")) == 0
    text = (results / "page.html").read_text()
    assert text.count("<svg") == 5
    assert "<i>all" not in text
    assert "&lt;i&gt;all" in text
    assert '<td class="n best">100.0</td>' in text
    assert "Not in all results, not compared: S3 (not in less)" in text
    assert "resamples of the 3 sequences" in text
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_the_page_of_several_results_can_be_looked_at(results):
    assert side_by_side("--html", "page.html") == 0
    picture = results / "page.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={results / 'profile'}", f"--screenshot={picture}",
               "--window-size=1200,2200", (results / "page.html").as_uri()]  # fmt: skip
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    shown = cv2.imread(str(picture))
    assert shown.shape == (2200, 1200, 3)
    for number in range(3):  # each result has its colour
        red, green, blue = (int(PALETTE[number][at : at + 2], 16) for at in (1, 3, 5))
        assert (shown == (blue, green, red)).all(axis=-1).sum() > 100

"""`jde eval --failures`, and the table by gap of `--embeddings`."""

import json
import shutil
import subprocess

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.jobs.cli import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FRAMES = 30


@pytest.fixture
def sequences(tmp_path, monkeypatch):
    """Two sequences of a person whose track changes in the middle, with frames of the first."""
    for name in ("A", "B"):
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        truth = [f"{f},1,{f},11,20,60,1,1,1\n" for f in range(1, FRAMES + 1)]
        (tmp_path / "gt" / name / "gt" / "gt.txt").write_text("".join(truth))
        tracks = [f"{f},{2 + f // 16},{f},11,20,60,1,-1,-1,-1\n" for f in range(1, FRAMES + 1)]
        (tmp_path / "sort").mkdir(exist_ok=True)
        (tmp_path / "sort" / f"{name}.txt").write_text("".join(tracks))
    (tmp_path / "gt" / "A" / "img1").mkdir()
    for f in range(1, FRAMES + 1):
        picture = np.full((90, 120, 3), (40, 90 + f, 140), np.uint8)
        cv2.imwrite(str(tmp_path / "gt" / "A" / "img1" / f"{f:06}.png"), picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*more, tracks=("sort",)):
    return run(["eval", *tracks, "--gt", "gt", *map(str, more)])


def test_the_tables_follow_the_usual_one(sequences, capsys):
    assert evaluate("--failures", "out", "--json", "scores.json") == 0
    output, said = capsys.readouterr()
    lines = [line.split() for line in output.splitlines() if line.strip()]
    assert lines[0][:3] == ["sequence", "HOTA", "DetA"]
    assert ["A", "as", "reported", "50.0"] in [line[:4] for line in lines]
    assert ["true", "ids", "100.0"] in [line[:3] for line in lines]
    assert ["born", "again", "2", "0", "0", "0", "2", "30"] in lines  # of both together
    assert "Without frames, so without pictures: B." in said
    assert "written: out/index.html" in said
    assert {path.name for path in (sequences / "out").iterdir()} == {
        "index.html", "failures.json", "switches.csv"
    }  # fmt: skip
    written = json.loads((sequences / "out" / "failures.json").read_text())
    scores = json.loads((sequences / "scores.json").read_text())
    assert scores["ceiling"] == written["ceiling"]
    assert scores["overall"]["IDs"] == len(written["switches"]) == 2
    assert evaluate("--json", "plain.json") == 0
    plain = json.loads((sequences / "plain.json").read_text())
    assert plain == {key: scores[key] for key in plain}  # nothing else has changed
    assert "ceiling" not in plain


@pytest.mark.parametrize(
    ("more", "tracks", "message"),
    [
        (["--failures", "out"], ["sort", "gt"], "failures: got 2 results, expected one"),
        (["--failures", "out", "--embeddings"], ["sort"], "failures: got --detections or --emb"),
        (["--failures", "sort/A.txt"], ["sort"], "failures: sort/A.txt is a file"),
        (["--frames", "gt"], ["sort"], "frames: got gt, expected it with --failures"),
        (["--failures", "out", "--frames", "nowhere"], ["sort"], "nowhere"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(sequences, capsys, more, tracks, message):
    assert evaluate(*more, tracks=tracks) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (sequences / "out").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_the_page_can_be_looked_at(sequences):
    assert evaluate("--failures", "out") == 0
    picture = sequences / "page.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={sequences / 'profile'}", f"--screenshot={picture}",
               "--window-size=1200,2600", (sequences / "out" / "index.html").as_uri()]  # fmt: skip
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    shown = cv2.imread(str(picture)).astype(int)
    frame = (np.abs(shown - (40, 110, 140)) < 25).all(axis=-1)
    assert frame.sum() > 20_000  # pixels of the four pictures


def test_embeddings_have_a_table_by_gap(sequences, capsys):
    random = np.random.default_rng(0)
    looks = random.normal(size=(2, 8))
    vectors = (looks[None] + random.normal(0, 0.3, (40, 2, 8))).astype(np.float16)
    boxes = [[[0.0, 0, 10, 20], [100.0, 0, 110, 20]]] * 40
    (sequences / "run" / "detections").mkdir(parents=True)
    table = {
        "frame": pa.array(range(40), pa.int32()),
        "boxes": pa.array(boxes),
        "scores": pa.array([[0.9, 0.9]] * 40),
        "embeddings": pa.array([[one.tobytes() for one in row] for row in vectors]),
    }
    pq.write_table(pa.table(table), sequences / "run" / "detections" / "S.parquet")
    lines = [f"{f},{i},{x},1,10,20,1,1,1\n" for f in range(1, 41) for i, x in ((1, 1), (2, 101))]
    (sequences / "gt" / "S.gt.txt").write_text("".join(lines))
    more = ("--embeddings", "--json", "e.json", "--html", "e.html")
    assert evaluate(*more, tracks=["run"]) == 0
    assert "five, 10-60" in capsys.readouterr().out
    content = json.loads((sequences / "e.json").read_text())
    own = content["by_gap"]["S"]
    assert content["by_gap"]["OVERALL"] == own
    assert own["one, 1-5"]["pairs"] == 2 * sum(40 - gap for gap in range(1, 6))
    assert own["one, 1-5"]["AUC"] > 99
    assert own["five, 10-60"]["TPR@5e-2"] == 100
    assert own["one, 60-300"] == {"AUC": None, "TPR@5e-2": None, "TPR@1e-1": None, "pairs": 0}
    assert "By the frames between two sightings" in (sequences / "e.html").read_text()

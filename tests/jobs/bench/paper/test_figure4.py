"""`jde bench figure4`: what it combines, shares, prints and draws. No speed is tested."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from little_street import Calls
from onnx_models import write_declaration, write_mean_embedder
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app
from jde_ray.jobs.bench.paper import comparison, footage
from jde_ray.jobs.bench.paper.figure4_page import caption
from jde_ray.jobs.bench.paper.figure4_report import FEW, MANY, choose_limits, group, row_of
from jde_ray.jobs.bench.paper.named import LIMITS, Shared, combine, parse_association, with_limits
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import score_sequence
from jde_ray.pipelines.formats.detection_rows import DetectionRows


def measured(name="a", people=3.0, seconds=1.0, boxes=4, **changes):
    """Four frames with a person, of which a tracker has found some."""
    rows = BoxRows(np.arange(4), np.ones(4, int), np.tile([0.0, 0, 9, 9], (4, 1)))
    one = comparison.Measured(
        sequence=name,
        detector="d",
        embedding="e",
        is_joint=False,
        frames=4,
        boxes=boxes,
        people=people,
        seconds=dict.fromkeys(comparison.STAGES, 0.0) | {"detect": seconds},
        scores=score_sequence(rows, rows[:boxes]),
        found=DetectionRows(BoxRows.empty(), np.zeros(0), None),
        frame_size=(64, 64),
        tracks=rows[:boxes],
        appearance_limit=None,
    )
    return replace(one, **changes)


def test_all_detectors_times_all_embedders_and_the_joint_ones_alone(street, tmp_path):
    pytest.importorskip("onnxruntime")
    tiny = write_declaration(tmp_path / "tiny", embedder=False)
    networks = [write_mean_embedder(tmp_path / f"{name}.onnx") for name in ("one", "two")]
    arguments = ["figure4", "--data", str(street), "--out", str(tmp_path / "out")]
    arguments += ["--detector", "JDE=small", "--detector", f"Red={tiny}", "--conf", "Red=0.3"]
    arguments += ["--embedder", f"Mean={networks[0]}", "--embedder", f"Other={networks[1]}"]
    arguments += ["--association", "low_overlap_limit=0", "--precision", "fp32"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out/figure4.json").read_text())
    rows = report["rows"]
    assert [(row["detector"], row["embedding"], row["kind"]) for row in rows] == [
        ("JDE", "joint", "filled"), ("JDE", "Mean", "crossed"), ("JDE", "Other", "crossed"),
        ("Red", "Mean", "open"), ("Red", "Other", "open"),
    ]  # fmt: skip
    for row in rows:
        assert row["frames"] == 8 - comparison.WARM_UP
        parts = (row["ms"][stage] for stage in ("detect", "embed", "associate"))
        assert row["total_ms"] == pytest.approx(sum(parts))
        has_crops = row["embedding"] != "joint"
        assert (row["ms"]["embed"] > 0) == (row["ms_embed_per_box"] > 0) == has_crops
        assert math.isfinite(row["scores"]["MOTA"])
    for own in (rows[:3], rows[3:]):
        assert len({row["boxes"] for row in own}) == len({row["ms"]["detect"] for row in own}) == 1
    assert (tmp_path / "out/figure4.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out/figure4.html").read_text()
    assert "low_overlap_limit 0" in page
    assert "JDE + Mean" in page
    assert "ms per box" in result.output


def test_work_is_done_once_and_shared(street):
    calls = Calls()
    joint = calls.finder("joint network", 3, is_joint=True)
    apart = calls.finder("apart", 2, is_joint=False)
    embedders = [calls.embedder("a"), calls.embedder("b")]
    combinations = combine([joint, apart], embedders)
    (one,) = footage.find_sequences([street])
    rows = comparison.measure(one, combinations)
    assert len(rows) == 5
    assert calls.count == {"joint network": 8, "apart": 8, "a": 16, "b": 16}
    for a, b in zip(calls.crops["a"], calls.crops["b"], strict=True):
        np.testing.assert_array_equal(a, b)
    for row in rows:
        same = [other for other in rows if other.detector == row.detector]
        assert len({other.seconds["detect"] for other in same}) == 1
        for other in same:
            np.testing.assert_array_equal(other.found.rows.tlbr, row.found.rows.tlbr)
    tuned = comparison.measure(one, with_limits(combinations))
    assert [row.appearance_limit for row in tuned] == list(LIMITS) * 5
    assert calls.count == {"joint network": 16, "apart": 16, "a": 32, "b": 32}


def test_a_limit_is_chosen_per_embedder_over_all_its_detectors():
    def run(detector, embedding, limit, boxes):
        return measured(detector=detector, embedding=embedding, boxes=boxes, appearance_limit=limit)

    rows = [
        run("a", "e", 0.1, 4), run("b", "e", 0.1, 1), run("a", "e", 0.5, 3), run("b", "e", 0.5, 3),
        run("a", "joint", 0.1, 2), run("a", "joint", 0.5, 1),
        run("b", "joint", 0.1, 1), run("b", "joint", 0.5, 2),
    ]  # fmt: skip
    chosen = choose_limits(rows)
    assert chosen == {"e": 0.5, "a": 0.1, "b": 0.5}
    told = caption({"association": {}, "conf": {"": 0.4}, "tuned": chosen})
    assert "on these very sequences (e 0.5, a 0.1, b 0.5)" in told
    assert "others 0.4" in told


def test_sequences_are_grouped_by_their_crowd():
    few, many = group([measured("a", 2, 1, 1), measured("b", 5, 2, 2), measured("c", 30, 8, 0)], 10)
    assert (few["sequence"], many["sequence"]) == (FEW, MANY)
    assert (few["frames"], few["people"], few["boxes"]) == (8, 3.5, 3 / 8)
    assert few["ms"]["detect"] == 1000 * 3 / 8
    assert few["scores"]["MOTA"] == pytest.approx(100 * 3 / 8)
    assert (many["people"], many["total_ms"]) == (30, 2000)


def test_the_front_has_those_that_nobody_beats_in_both():
    rows = group(
        [
            measured(detector="quick", seconds=1, boxes=2),
            measured(detector="good", seconds=2, boxes=4),
            measured(detector="beaten", seconds=3, boxes=3),
            measured(detector="elsewhere", seconds=9, boxes=1, people=50),
        ],
        10,
    )
    assert {row["detector"] for row in rows if row["on_front"]} == {"quick", "good", "elsewhere"}


def test_the_cost_of_a_box_is_that_of_its_crop():
    seconds = dict.fromkeys(comparison.STAGES, 0.0) | {"embed": 0.4}
    assert row_of(measured())["ms_embed_per_box"] == 0
    row = row_of(replace(measured(), seconds=seconds))
    assert (row["ms"]["embed"], row["ms_embed_per_box"]) == (100, 100)


def test_without_data_and_names_small_runs_on_two_rendered_streets(tmp_path, monkeypatch):
    monkeypatch.setattr(footage, "_STREETS", {"few": (2, 11)})
    arguments = ["figure4", "--out", str(tmp_path), "--max-frames", "6", "--precision", "fp32"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "figure4.json").read_text())
    assert [(row["detector"], row["embedding"]) for row in report["rows"]] == [("small", "joint")]
    assert "no --embedder" in result.output
    before = (tmp_path / "streets/videos/few.mp4").stat().st_mtime_ns
    footage.render_streets(tmp_path / "streets", 6)
    assert (tmp_path / "streets/videos/few.mp4").stat().st_mtime_ns == before


def test_all_detectors_have_the_association_and_each_its_score():
    association = parse_association(["association=deepsort", "appearance_limit=0.3"])
    shared = Shared(association, "fp32", 1, {"a": 0.2, "": 0.4})
    values = {name: shared.values(name, f"{name}.yaml") for name in ("a", "b")}
    assert [values[name]["tracking", "high_score"] for name in "ab"] == [0.2, 0.4]
    for own in values.values():
        assert own["tracking", "association"] == "deepsort"
        assert own["tracking", "appearance_limit"] == 0.3
        assert ("detection", "precision") not in own
    assert shared.values("c", "c.safetensors")["detection", "precision"] == "fp32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "."], "no video found"),
        (["--config", "none.yaml"], "config: got none.yaml, expected --detector NAME=WEIGHTS"),
        (["--weights", "small"], "weights: got small, expected --detector NAME=WEIGHTS"),
        (["--clock", "cpu", "--threads", "2"], "clock: got cpu with 2 threads"),
        (["--detector", "small"], "detector: got 'small', expected NAME=VALUE"),
        (["--detector", "a=small", "--detector", "a=x.yaml"], "detector: two are named a"),
        (["--embedder", "a=x.onnx", "--embedder", "a=x.onnx"], "embedder: two are named a"),
        (["--embedder", "joint=x.onnx"], "embedder: joint is kept"),
        (["--embedder", "a=x.onnx"], "weights: x.onnx is missing"),
        (["--detector", "a=vgg"], "weights: vgg is neither a file nor a shipped model"),
        (["--conf", "b=0.3"], "conf: got b=0.3, expected one of small"),
        (["--conf", "high"], "conf: got 'high', expected SCORE or NAME=SCORE"),
        (["--association", "speed=3"], "association.speed: no such setting"),
        (["--association", "overlap_limit=x"], "association.overlap_limit: got 'x'"),
        (["--association", "association=sort", "--tuned"], "tuned: association sort has no app"),
        (["--association", "mode=published", "--tuned"], "tuned: appearance_limit: got 0.05"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["bench", "figure4", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_no_page_repeats_what_the_paper_only_plots():
    from jde_ray.jobs.bench.paper.figure4_page import PAPER

    assert re.findall(r"(?<![-\w])\d+(?![-\w])", PAPER) == ["4", "22", "6"]

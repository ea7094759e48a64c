"""`jde bench figure4`, `speed` and `table3`: what they print and write. No speed is tested."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from onnx_models import write_declaration
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app
from jde_ray.jobs.bench.paper import comparison, figure4
from jde_ray.jobs.bench.paper.speed import row_of
from jde_ray.jobs.bench.paper.table3 import COLUMNS, PUBLISHED, measured_row
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import score_sequence
from jde_ray.pipelines.formats.detections import DetectionRows

pytest.importorskip("onnxruntime")

NOTHING_FOUND = DetectionRows(BoxRows.empty(), np.zeros(0), None)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A rendered street of eight small frames, with its truth."""
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.video.synthetic import render_street

    folder = tmp_path_factory.mktemp("street")
    scene = StreetScene(3, width=192, height=96, num_people=4, num_frames=8)
    render_street(scene, folder / "little.mp4", folder / "little")
    return folder


@pytest.fixture
def separate(tmp_path):
    """Settings whose weights are the two tiny networks."""
    weights = write_declaration(tmp_path / "tiny")
    path = tmp_path / "separate.yaml"
    path.write_text(f"weights: {weights}\nconf: 0.3\ntracking: {{low_overlap_limit: 0}}\n")
    return path


def test_every_detector_with_every_embedding(street, separate, tmp_path):
    out = tmp_path / "out"
    arguments = ["figure4", "--data", str(street), "--config", str(separate), "--out", str(out)]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "figure4.json").read_text())
    pairs = [(row["detector"], row["embedding"]) for row in report["rows"]]
    assert pairs == [
        ("small", "joint"), ("small", "none"), ("small", "reid"), ("sde", "reid"), ("sde", "none")
    ]  # fmt: skip
    for row in report["rows"]:
        assert row["frames"] == 8 - comparison.WARM_UP
        parts = (row["ms"][stage] for stage in ("detect", "embed", "associate"))
        assert row["total_ms"] == pytest.approx(sum(parts))
        assert (row["ms"]["embed"] > 0) == (row["embedding"] == "reid")
        assert math.isfinite(row["scores"]["MOTA"])
    assert report["rows"][0]["ms"]["detect"] == report["rows"][1]["ms"]["detect"]
    page = (out / "figure4.html").read_text()
    assert page.count("<circle") == len(pairs)
    assert "small + reid" in page
    assert "ms per box" in result.output


def pair_of(folder, detector, weights_from=None):
    """Settings with a detector of that name, and with the embedder of another pair if given."""
    declaration = write_declaration(folder)
    named = declaration.with_name(f"{detector}.yaml")
    text = declaration.read_text()
    if weights_from is not None:
        text = text.replace("reid.onnx", str(weights_from / "reid.onnx"))
    named.write_text(text)
    path = folder / "settings.yaml"
    path.write_text(f"weights: {named}\nconf: 0.3\n")
    return path


def test_embedders_of_one_name_are_refused_and_one_embedder_is_measured_once(tmp_path):
    first, other = pair_of(tmp_path / "a", "one"), pair_of(tmp_path / "b", "two")
    with pytest.raises(ValueError, match=r"two embedders are named reid .*a/reid.*b/reid"):
        figure4.build_combinations({"precision": "fp32"}, [first, other])
    same = pair_of(tmp_path / "c", "two", weights_from=tmp_path / "a")
    found = figure4.build_combinations({"precision": "fp32"}, [first, same])
    pairs = [(one.finder.name, one.embedding) for one in found]
    assert len(set(pairs)) == len(pairs)
    assert {("small", "reid"), ("one", "reid"), ("two", "reid")} <= set(pairs)


def test_sequences_are_grouped_by_their_crowd():
    def one(name, people, seconds, boxes):
        times = dict.fromkeys(comparison.STAGES, 0.0) | {"detect": seconds}
        rows = BoxRows(np.arange(4), np.ones(4, int), np.tile([0.0, 0, 9, 9], (4, 1)))
        found = score_sequence(rows, rows[: 4 - boxes])
        return comparison.Measured(
            name, "d", "e", 4, boxes, people, times, found, NOTHING_FOUND, (64, 64)
        )

    groups = figure4.group([one("a", 2, 1, 1), one("b", 5, 2, 2), one("c", 30, 8, 0)], 10)
    few, many = groups
    assert (few["sequence"], many["sequence"]) == (figure4.FEW, figure4.MANY)
    assert (few["frames"], few["people"], few["boxes"]) == (8, 3.5, 3 / 8)
    assert few["ms"]["detect"] == 1000 * 3 / 8
    assert few["scores"]["MOTA"] == pytest.approx(100 * 5 / 8)
    assert (many["people"], many["total_ms"]) == (30, 2000)


def test_without_data_and_networks_two_streets_are_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr(figure4, "_STREETS", {"few": (2, 11)})
    arguments = ["figure4", "--out", str(tmp_path), "--max-frames", "6"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "figure4.json").read_text())
    assert [row["embedding"] for row in report["rows"]] == ["joint", "none"]
    assert "no --config" in result.output
    before = (tmp_path / "streets/videos/few.mp4").stat().st_mtime_ns
    assert CliRunner().invoke(app.app, arguments).exit_code == 0
    assert (tmp_path / "streets/videos/few.mp4").stat().st_mtime_ns == before


def test_speed_writes_what_table3_reads(street, tmp_path):
    out = tmp_path / "mine"
    result = CliRunner().invoke(app.app, ["speed", str(street), "--out", str(out)])
    assert result.exit_code == 0, result.output
    report = json.loads((out / "speed.json").read_text())
    (row,) = report["rows"]
    seconds = row["seconds"]
    assert row["FPSD"] == pytest.approx(row["frames"] / seconds["detect"])
    assert row["FPSA"] == pytest.approx(row["frames"] / seconds["associate"])
    assert row["FPS"] == pytest.approx(row["frames"] / sum(seconds.values()))
    assert row["FPS"] < min(row["FPSD"], row["FPSA"])
    assert row["scored"] == ["little"]
    result = CliRunner().invoke(app.app, ["table3", "--measured", str(out / "speed.json")])
    assert result.exit_code == 0, result.output
    for text in ("DeepSORT_2", "JDE-1088", "small (mine)"):
        assert text in result.output
    assert f"{row['FPSD']:.1f}" in result.output
    assert "scored on little" in result.output


def test_a_separate_pair_has_its_crops_in_the_networks_share(street, separate, tmp_path):
    arguments = ["speed", str(street), "--config", str(separate), "--out", str(tmp_path)]
    arguments += ["--clock", "cpu"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "speed.json").read_text())
    overall = report["overall"]
    assert report["clock"] == "cpu"
    assert report["is_separate"]
    network = overall["seconds"]["detect"] + overall["seconds"]["embed"]
    assert overall["FPSD"] == pytest.approx(overall["frames"] / network)


def test_a_flag_wins_over_the_file(street, separate, tmp_path):
    arguments = ["speed", str(street), "--config", str(separate), "--weights", "small"]
    result = CliRunner().invoke(app.app, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "speed.json").read_text())
    assert (report["weights"], report["is_separate"]) == ("small", False)


def test_a_measured_row_has_a_dash_for_what_was_not_measured():
    seconds = dict.fromkeys(comparison.STAGES, 0.5)
    one = comparison.Measured(
        "a", "small", "joint", 10, 20, math.nan, seconds, None, NOTHING_FOUND, (64, 64)
    )
    report = {"weights": "small", "is_separate": False, "overall": row_of("all", [one])}
    row = measured_row("mine", report)
    assert len(row) == len(COLUMNS)
    assert all(len(published) == len(COLUMNS) for published in PUBLISHED)
    assert row[5:10] == ("-",) * 5
    assert row[10:] == ("10.0", "20.0", "5.0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table3", "--measured", "none.json"], "none.json was not written by jde bench speed"),
        (["table3", "--measured", "other.json"], "other.json was not written by jde bench speed"),
        (["figure4", "--data", "."], "no video found"),
        (["figure4", "--config", "none.yaml"], "config: none.yaml cannot be read"),
        (["speed", "--clock", "cpu", "--threads", "2"], "clock: got cpu with 2 threads"),
        (["figure4", "--clock", "cpu", "--threads", "2"], "clock: got cpu with 2 threads"),
        (["speed", "--weights", "vgg"], "weights: vgg is neither a file nor a shipped model"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text('{"rows": []}')
    assert cli.run(["bench", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line

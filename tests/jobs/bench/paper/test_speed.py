"""`jde bench speed`: the parts that its columns count. No speed is tested."""

import json

import pytest
from onnx_models import write_declaration
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app
from jde_ray.jobs.bench.paper.speed import rates, whole_rate


@pytest.fixture
def separate(tmp_path):
    """Settings whose weights are the two tiny networks."""
    weights = write_declaration(tmp_path / "tiny")
    path = tmp_path / "separate.yaml"
    path.write_text(f"weights: {weights}\nconf: 0.3\ntracking: {{low_overlap_limit: 0}}\n")
    return path


@pytest.mark.parametrize(
    ("parts", "whole"), [((34.3, 81.0), 24.1), ((24.5, 81.5), 18.8), ((15, 9.9), 5.96)]
)
def test_parts_add_up_as_in_the_paper(parts, whole):
    assert whole_rate(parts) == pytest.approx(whole, abs=0.05)


def test_each_column_counts_its_own_stage():
    seconds = {"decode": 4.0, "detect": 2.0, "embed": 5.0, "associate": 1.0}
    assert rates(10, seconds) == pytest.approx(
        {"FPSD": 5.0, "FPSE": 2.0, "FPSA": 10.0, "FPS": 10 / 8, "FPS_decoded": 10 / 12}
    )
    assert rates(10, seconds | {"embed": 0.0})["FPSE"] is None


def test_crops_are_no_part_of_the_detector(street, separate, tmp_path):
    pytest.importorskip("onnxruntime")
    arguments = ["speed", str(street), "--config", str(separate), "--out", str(tmp_path)]
    result = CliRunner().invoke(app.app, [*arguments, "--clock", "cpu"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "speed.json").read_text())
    overall = report["overall"]
    assert (report["clock"], report["embedding"], overall["scored"]) == ("cpu", "reid", ["little"])
    seconds = overall["seconds"]
    assert seconds["embed"] > 0
    assert overall["FPSD"] == pytest.approx(overall["frames"] / seconds["detect"])
    assert overall["FPSE"] == pytest.approx(overall["frames"] / seconds["embed"])
    assert overall["FPS_decoded"] < overall["FPS"] < min(overall["FPSD"], overall["FPSE"])
    result = CliRunner().invoke(app.app, ["table3", "--measured", str(tmp_path / "speed.json")])
    assert result.exit_code == 0, result.output
    for text in ("DeepSORT_2", "JDE-1088", f"{overall['FPSE']:.1f}", "scored on little"):
        assert text in result.output


def test_a_flag_wins_over_the_file(street, separate, tmp_path):
    arguments = ["speed", str(street), "--config", str(separate), "--weights", "small"]
    result = CliRunner().invoke(app.app, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "speed.json").read_text())
    assert (report["weights"], report["embedding"]) == ("small", "joint")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clock", "cpu", "--threads", "2"], "clock: got cpu with 2 threads"),
        (["--weights", "vgg"], "weights: vgg is neither a file nor a shipped model"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["bench", "speed", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line

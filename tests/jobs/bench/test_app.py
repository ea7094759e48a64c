"""`jde bench association`: what it prints, and that it stays a light process."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import typer
from recurrent_weights import newest_looks
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app, association


@pytest.fixture
def small_scene(monkeypatch):
    monkeypatch.setattr(association, "SCENES", {"t20": 20})
    for name in association.BLAS_VARIABLES:  # set by the command: put back after the test
        monkeypatch.setenv(name, "1")


@pytest.mark.usefixtures("small_scene")
def test_json_holds_both_modes_beside_the_loop_and_the_original():
    result = CliRunner().invoke(app.app, ["association", "--repeat", "1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (row,) = report["scenes"]
    assert report["blas_threads"] == 1
    assert report["cpu"]
    assert row["original_frames_per_second"] == 590
    assert {size: ms > 0 for size, ms in report["camera"].items()} == {
        "640x480": True,
        "1920x1080": True,
    }
    for mode in ("default", "published"):
        figures = row[mode]
        assert figures["frames_per_second"] == pytest.approx(1000 / figures["ms"])
        assert figures["times_loop"] == pytest.approx(row["loop_ms"] / figures["ms"])
        assert figures["times_original"] == pytest.approx(figures["frames_per_second"] / 590)


@pytest.mark.usefixtures("small_scene")
def test_the_table_names_the_modes():
    result = CliRunner().invoke(app.app, ["association", "--repeat", "1"])
    assert result.exit_code == 0, result.output
    for word in ("published", "default", "loop", "590"):
        assert word in result.stdout


@pytest.mark.usefixtures("small_scene")
def test_other_associations_stand_beside_both_modes(monkeypatch):
    monkeypatch.setattr(association, "_measure_camera", lambda *_: 1.0)
    arguments = ["association", "--repeat", "1", "--association", "sort", "--association", "poi"]
    result = CliRunner().invoke(app.app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["others"] == ["sort", "poi"]
    assert all(report["scenes"][0][name]["ms"] > 0 for name in ("default", "sort", "poi"))


@pytest.mark.usefixtures("small_scene")
def test_one_that_needs_weights_is_named_by_its_settings_file(monkeypatch, tmp_path):
    monkeypatch.setattr(association, "_measure_camera", lambda *_: 1.0)
    newest_looks(8).save(tmp_path / "looks.safetensors")
    (tmp_path / "ran.yaml").write_text(
        f"tracking: {{association: ran, weights: {tmp_path}/looks.safetensors}}\n"
    )
    arguments = ["association", "--repeat", "1", "--config", str(tmp_path / "ran.yaml"), "--json"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["others"] == ["ran.yaml"]
    assert report["scenes"][0]["ran.yaml"]["ms"] > 0


@pytest.mark.usefixtures("small_scene")
def test_one_without_the_weights_that_it_needs_is_refused(capsys):
    assert cli.run(["bench", "association", "--association", "ran"]) == 2
    assert "tracking weights: got none, expected the weights" in capsys.readouterr().err


def test_a_process_that_has_loaded_numpy_goes_on_in_one_that_runs_the_command(monkeypatch):
    """It printed nothing: the module that it named had no main part."""
    commands = []
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setattr(
        association.subprocess, "call", lambda command, **_: commands.append(command)
    )
    with pytest.raises(typer.Exit):
        association._pin_blas(["--repeat", "1"])
    _, flag, module, verb, *_ = commands[0]
    assert (flag, verb) == ("-m", "association")
    assert find_spec(f"{module}.__main__") is not None


@pytest.mark.usefixtures("small_scene")
def test_an_association_that_there_is_not_is_refused(capsys):
    assert cli.run(["bench", "association", "--association", "best"]) == 2
    assert "association: got 'best', expected jde | sort" in capsys.readouterr().err


def test_bench_and_association_import_neither_ray_nor_torch():
    code = (
        "import sys, jobs.bench.app, models.tracking.tracker, models.tracking.baseline\n"
        "print(sorted({'ray', 'torch', 'cv2'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

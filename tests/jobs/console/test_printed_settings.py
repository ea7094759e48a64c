"""Settings from flags, variables and a file, and `--print-config`, which shows the outcome."""

from __future__ import annotations

import os

import pytest
import yaml

from jde_ray.jobs import cli
from jde_ray.jobs.console.options import collect
from jde_ray.jobs.console.printed_settings import describe_run
from jde_ray.jobs.console.run_flags import FLAGS
from jde_ray.jobs.console.serve_file import read_file
from jde_ray.pipelines.errors import ExitCode

FILE = "{conf: 0.3, size: 864x480, save-mot: true, tracking: {appearance_limit: 0.6}}"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [one for one in os.environ if one.startswith(("JDE_TRACK_", "JDE_SERVE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "track.yaml"
    path.write_text(FILE)
    return path


def test_what_is_printed_sets_what_the_call_sets(file, tmp_path, capsys):
    arguments = ["--config", str(file), "--nms", "0.5", "--num-detectors", "3", "--no-rect"]
    assert cli.run(["track", *arguments, "--print-config"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    expected = {"nms": 0.5, "num_detectors": "3", "rect": False}
    assert collect({}, again) == collect(expected, file)
    assert "# max-detections: 300\n" in printed  # a default is a comment


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(file, monkeypatch, capsys):
    monkeypatch.setenv("JDE_TRACK_CONFIG", str(file))
    monkeypatch.setenv("JDE_TRACK_CONF", "0.4")
    monkeypatch.setenv("JDE_TRACK_NMS", "0.45")
    monkeypatch.setenv("JDE_TRACK_SAVE_VIDEO", "1")
    assert cli.run(["track", "--nms", "0.5", "--print-config"]) == ExitCode.DONE
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["conf"] == 0.4
    assert values["nms"] == 0.5
    assert values["save-video"] is True
    assert values["size"] == "864x480"


def test_a_misspelt_variable_is_named(monkeypatch, capsys):
    monkeypatch.setenv("JDE_TRACK_CNF", "0.4")
    monkeypatch.setenv("JDE_TRACK_OUT", "runs/x")
    assert cli.run(["track", "--print-config"]) == ExitCode.DONE
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "# in the environment (flags win): JDE_TRACK_OUT"
    assert second == "# in the environment, but no setting of jde track: JDE_TRACK_CNF"


@pytest.mark.parametrize("verb", ["track", "serve"])
def test_a_refused_value_says_from_which_variable_it_came(verb, monkeypatch, capsys):
    monkeypatch.setenv(f"JDE_{verb.upper()}_CONF", "high")
    assert cli.run([verb, "--print-config"]) == ExitCode.REFUSED
    assert f"(from JDE_{verb.upper()}_CONF)" in capsys.readouterr().err
    assert cli.run([verb, "--print-config", "--conf", "higher"]) == ExitCode.REFUSED
    assert "(from" not in capsys.readouterr().err


def test_a_wrong_setting_is_refused_instead_of_printed(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("{limits: {idle: 3}}")
    assert cli.run(["track", "--print-config", "--conf", "3"]) == ExitCode.REFUSED
    assert cli.run(["serve", "--print-config", "--config", str(path)]) == ExitCode.REFUSED
    assert capsys.readouterr().out == ""


def test_the_settings_of_a_service_are_read_again_alike(tmp_path, monkeypatch, capsys):
    path = tmp_path / "serve.yaml"
    path.write_text("{num_sessions: 2, limits: {idle_s: 30}}")
    monkeypatch.setenv("JDE_SERVE_PORT", "9000")
    arguments = ["serve", "--config", str(path), "--track-buffer", "9", "--print-config"]
    assert cli.run(arguments) == ExitCode.DONE
    printed = capsys.readouterr().out
    for default in ("# limits.max_streams: 64", "# track.detection.nms_threshold: 0.4"):
        assert default in printed
    assert "limits.idle_s" not in printed
    path.write_text(printed)
    args, http = read_file(path)
    assert http == {"host": "127.0.0.1", "port": 9000}
    assert args == {
        "num_sessions": 2,
        "limits": {"idle_s": 30},
        "track": {"tracking": {"track_buffer": 9}},
    }


def test_the_help_names_no_variables(capsys):
    assert cli.run(["track", "--help"]) == ExitCode.DONE
    assert "JDE_TRACK" not in capsys.readouterr().out


def test_a_size_chosen_by_video_is_printed_as_it_was_given():
    lines = describe_run(collect({"size": "auto"}, None), FLAGS)
    assert "size: auto" in lines
    assert not [line for line in lines if line.startswith("# size") or "auto_size" in line]

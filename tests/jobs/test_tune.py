"""The command line of `jde tune`, and the file that `jde track --config` takes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jde_ray.jobs import cli
from jde_ray.jobs.console import progress as progress_module
from jde_ray.jobs.console.options import build_settings, collect
from jde_ray.jobs.tune import _pair
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.trackers.bytetrack import ByteTrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.evaluation.tuning import (
    Trial,
    Tuning,
    load_sequences,
    score_settings,
    with_settings,
)
from jde_ray.pipelines.sources.saved_detections import find_saved


def tree(folder: Path) -> Path:
    for name in ("A", "B"):
        lines = [f"{frame},{{}},{3 * frame},50,40,90,{{}}\n" for frame in range(1, 16)]
        for kind, values in (("gt", (1, "1,1,1")), ("det", (-1, 0.65))):
            (folder / name / kind).mkdir(parents=True)
            text = "".join(lines).format(*values * 15)
            (folder / name / kind / f"{kind}.txt").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A slow machine prints no line about a step between what a test looks for."""
    monkeypatch.setattr(progress_module, "PATIENCE_S", 3600.0)


@pytest.mark.ray
def test_the_best_is_written_as_a_configuration(ray_cluster, tmp_path, capsys) -> None:
    place, out, every = tree(tmp_path / "tree"), tmp_path / "best.yaml", tmp_path / "all.json"
    arguments = ["tune", str(place), "--gt", str(place), "--association", "bytetrack"]
    arguments += ["--param", "conf=0.5:0.6:2", "--param", "birth_score=0.6,0.8"]
    base = tmp_path / "base.yaml"
    base.write_text("size: 864x480\nconf: 0.9\nsave-mot: true\n")  # which finds nobody
    arguments += ["--config", str(base)]
    code = cli.run([*arguments, "--out", str(out), "--json", str(every)])
    assert code == ExitCode.DONE
    text = capsys.readouterr().out
    assert "as it was" in text
    assert "left out" in text
    assert "conf" in text.splitlines()[1]
    settings = build_settings(collect({}, out))
    assert settings.track.tracking == ByteTrackConfig(high_score=0.5, birth_score=0.6)
    assert settings.track.detection.size == (864, 480)  # as the file to start from has it
    assert settings.outputs.save_mot
    trials = json.loads(every.read_text())
    assert len(trials) == 4
    assert trials[0]["settings"] == {"high_score": 0.5, "birth_score": 0.6}
    assert set(trials[0]["sequences"]) == {"A", "B"}


def test_a_file_is_never_worse_than_the_start_and_weak_detections_are_missed_aloud(
    tmp_path, monkeypatch, capsys
) -> None:
    place, out = tree(tmp_path / "tree"), tmp_path / "best.yaml"

    def three(config, sets, space, **_):
        loaded = load_sequences(config, sets)
        every = [{"high_score": 0.3}, {"high_score": 0.9}]
        trials = [Trial(s, score_settings(with_settings(config, s), loaded)) for s in every]
        start = Trial({}, score_settings(with_settings(config, {}), loaded))
        return Tuning("HOTA", trials[1:] if "min_hits" in space else trials, start)

    def saved_from(score):  # as of a run with --save-detections
        def resolve_settings(config, saved, least):
            return replace(config, detection=replace(config.detection, score_threshold=score))

        return resolve_settings

    monkeypatch.setattr("jde_ray.pipelines.evaluation.tuning.tune", three)
    monkeypatch.setattr(
        "jde_ray.pipelines.tracking.from_detections.resolve_settings", saved_from(0.3)
    )
    command = ["tune", str(place), "--gt", str(place), "--out", str(out)]
    assert cli.run([*command, "--param", "conf=0.3:0.9"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert (
        "note: detections were saved down to a score of 0.3, but trials use them down to 0.18"
        in said
    )
    monkeypatch.setattr(
        "jde_ray.pipelines.tracking.from_detections.resolve_settings", saved_from(0.1)
    )
    assert cli.run([*command, "--param", "min_hits=1,2", "--json", "-"]) == ExitCode.DONE
    output, said = capsys.readouterr()
    assert len(json.loads(output)) == 1
    assert "written to" in said
    assert "note" not in said
    assert "no trial is better than the starting settings" in said
    assert build_settings(collect({}, out)).track.tracking == TrackingConfig()
    first, second = (float(word) for word in re.findall(r"\d+\.\d\d", out.read_text())[:2])
    assert first == second > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--param", "nms=0.3,0.4"], "expected settings of the association"),
        (["--param", "association=sort,jde"], "expected settings of the association"),
        (["--param", "conf=0.5", "--metric", "speed"], "metric: got 'speed'"),
        (["--param", "conf=0.5", "--search", "luck"], "search: got 'luck'"),
        (["--param", "conf=0.5", "--json", "no/where.json"], "json: there is no folder no"),
        (["--param", "magic=1"], "magic: no setting of association jde"),
        (["--param", "conf=0.5", "--gt", "missing"], "gt: missing"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(arguments, said, tmp_path, capsys) -> None:
    place = str(tree(tmp_path))
    gt = [] if "--gt" in arguments else ["--gt", place]
    out = tmp_path / "best.yaml"
    assert cli.run(["tune", place, *gt, *arguments, "--out", str(out)]) == ExitCode.REFUSED
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not out.exists()


def test_sequences_without_ground_truth_are_skipped_if_asked(tmp_path, capsys) -> None:
    place = tree(tmp_path)
    (place / "B" / "gt" / "gt.txt").unlink()
    sets, left_out = _pair(find_saved([str(place)]), place, skip_missing=True)
    assert ([one.name for one in sets], left_out) == (["A"], ["B"])
    (place / "A" / "gt" / "gt.txt").unlink()
    with pytest.raises(RunError, match=r"no ground truth below .* for any sequence"):
        _pair(find_saved([str(place)]), place, skip_missing=True)
    tree(tmp_path / "again")
    (tmp_path / "again" / "B" / "gt" / "gt.txt").unlink()
    usual = ["tune", str(tmp_path / "again"), "--gt", str(tmp_path / "again")]
    out = ["--out", str(tmp_path / "best.yaml")]
    assert cli.run([*usual, "--param", "conf=0.5", *out]) == ExitCode.REFUSED
    assert "--skip-missing leaves out sequences" in capsys.readouterr().err
    assert cli.run([*usual, "--param", "conf=2", "--skip-missing", *out]) == ExitCode.REFUSED
    assert "param: conf: got 2" in capsys.readouterr().err, "it went on"


def test_a_name_that_is_too_long_for_a_file_is_refused(capsys):
    from jde_ray.jobs import cli
    from jde_ray.pipelines.errors import ExitCode

    assert cli.run(["tune", "é" * 200, "--gt", "gt", "--param", "conf=0.5"]) == ExitCode.REFUSED
    assert capsys.readouterr().err.endswith("é cannot be searched (File name too long)\n")

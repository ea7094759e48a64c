"""The `jde` command: one line for every error, and the exit code that fits. No Ray is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from made_videos import write_video
from places import ROOT
from typer.main import get_command

from jde_ray.jobs import cli, doctor
from jde_ray.jobs import track as track_job
from jde_ray.jobs.bench.app import app as bench
from jde_ray.jobs.console import progress as progress_module
from jde_ray.jobs.console import runner
from jde_ray.pipelines.config import VERSION, DetectionConfig, OutputConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.output.work import VideoRow
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.tracking.tally import Progress


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("jde: error: ")
    return line.removeprefix("jde: error: ")


def summary(out: str, exit_code: ExitCode, rows: list[VideoRow]) -> Summary:
    errors = [
        {"video": r.video, "reason": "truncated", "detail": "too\nshort", "frame": 7}
        for r in rows
        if r.error
    ]
    done = sum(r.status == "done" for r in rows)
    return Summary(
        out=out,
        videos_done=done,
        videos_failed=len(errors),
        videos_skipped=0,
        frames=10,
        damaged=2,
        detections=4,
        rows=3,
        tracks=1,
        dropped={"min_box_area": 1},
        seconds={"wall": 2.0},
        frames_per_second={},
        videos=rows,
        errors=errors,
        exit_code=exit_code,
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A slow machine prints no line about a step between what a test looks for."""
    monkeypatch.setattr(progress_module, "PATIENCE_S", 3600.0)


@pytest.fixture
def run_track(monkeypatch, tmp_path):
    """`jde track` with the dataflow replaced: records its arguments, answers with a summary."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        track_job, "check_weights", lambda values, **_: track_job.build_settings(values)
    )
    write_video(tmp_path / "a.mp4", 1)
    calls: list[tuple[tuple, dict]] = []

    def run(*arguments: str, exit_code: ExitCode = ExitCode.DONE, rows=(), raises=None):
        def fake(*args, **kwargs):
            calls.append((args, kwargs))
            if raises is not None:
                raise raises
            kwargs["progress"](Progress(2, 1, 0, 30, 3.0))
            return summary(args[1], exit_code, list(rows))

        monkeypatch.setattr(offline, "track", fake)
        monkeypatch.setattr(reference, "track", fake)
        return cli.run(["track", "a.mp4", *arguments]), calls

    return run


def test_help_and_version_are_at_hand(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)
    for command in ([], ["bench"]):  # nothing to do is a mistake, and says what there is
        assert cli.run(command) == 2
        out, err = capsys.readouterr()
        assert not out
        assert "Usage: jde" in err
    for command in (["track"], ["bench"], ["bench", "network"]):
        for flag in ("--help", "-h"):
            assert cli.run([*command, flag]) == 0
            assert f"Usage: jde {' '.join(command)}" in capsys.readouterr().out


def test_the_version_names_the_commit_of_a_checkout(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.version() == f"jde-ray {VERSION}"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    name, _, short = cli.version().removesuffix(")").partition(" (")
    assert name == f"jde-ray {VERSION}"
    assert len(short) >= 7
    assert commit.stdout.startswith(short)
    monkeypatch.setenv("PATH", "")  # no git: it is left out
    assert cli.version() == f"jde-ray {VERSION}"


def test_a_folder_models_of_somebody_else_hides_nothing(tmp_path):
    for name in ("models", "pipelines", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')")
    command = [sys.executable, "-m", "jde_ray.jobs.cli", "--version"]
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.check_output(command, cwd=tmp_path, env=ours, text=True)
    assert said.startswith("jde-ray")


def test_a_checkout_runs_its_verbs_by_module():
    command = [sys.executable, "-m", "jobs.track", "--help"]
    assert "jde track" in subprocess.check_output(command, cwd=ROOT, text=True)


def test_help_says_defaults_in_one_way(capsys):
    for verb in (
        "track",
        "eval",
        "refine",
        "serve",
        "bench serve",
        "bench network",
        "bench figure4",
    ):
        assert cli.run([*verb.split(), "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "[default: " in text
        assert "Default: " not in text
        assert "[default: (" not in text
        assert "\\[" not in text


@pytest.mark.parametrize("verb", [track_job.track, bench])
def test_a_terminal_breaks_the_lines_of_help(verb):
    command = get_command(runner.application(verb))
    for one in getattr(command, "commands", {"": command}).values():
        assert one.help
        assert not [part for part in one.help.split("\n\n") if "\n" in part]


def test_help_does_not_lose_what_stands_in_brackets(capsys):
    assert cli.run(["export", "--help"]) == 0
    assert "'.[onnx]'" in capsys.readouterr().out


def test_a_wrong_store_is_refused_before_the_checks(capsys):
    assert cli.run(["doctor", "--store", "ftp://x"]) == 2
    accepted = "expected a local path or s3://bucket/prefix"
    assert one_error(capsys) == f"store: got 'ftp://x', {accepted}"
    assert cli.run(["doctor", "--store", "s3://b/x", "--s3-endpoint", "host"]) == 2
    assert "s3-endpoint: got 'host'" in one_error(capsys)


def test_flags_of_track_take_nothing(capsys):
    assert cli.run(["track", "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    flags = ("--save-", "--overwrite", "--retry-errors", "--rect", "--compile")
    shown = [line for line in lines if any(f" {flag}" in line for flag in flags)]
    assert len(shown) >= 8
    assert not [line for line in shown if "<bool>" in line]


def test_saved_detections_are_searched_once_and_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "det").mkdir(parents=True)
    (tmp_path / "a" / "det" / "det.txt").write_text("1,-1,9,50,40,100,0.9,-1,-1,-1\n")
    searched, handed = [], []

    def search(sources):
        searched.append(sources)
        return find_saved(sources)

    def stop(saved, out, config, **_):
        handed.append(([one.video.name for one in saved], config.detection.weights))
        raise RunError("enough", ExitCode.REFUSED)

    monkeypatch.setattr("jde_ray.pipelines.sources.saved_detections.find_saved", search)
    monkeypatch.setattr("jde_ray.pipelines.tracking.from_detections.track", stop)
    arguments = ["track", "--from-detections", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.run(arguments) == ExitCode.REFUSED
    assert len(searched) == 1
    assert handed == [(["a"], "det.txt")]


def test_a_pattern_that_is_wrong_or_fits_nothing_is_one_line(tmp_path: Path, capsys) -> None:
    clip = tmp_path / "door" / "clip.mp4"
    clip.parent.mkdir()
    clip.write_bytes(b"no video, and nobody looks")
    (tmp_path / "det").mkdir()
    (tmp_path / "det" / "det.txt").write_text("1,-1,9,50,40,100,0.9,-1,-1,-1\n")
    command = ["track", "--out", str(tmp_path / "out"), "--source-pattern"]
    assert cli.run([*command, "{cam}/*", str(clip)]) == ExitCode.REFUSED
    assert one_error(capsys).startswith("source-pattern: got the field {cam}, expected {camera}")
    for source in ([str(clip)], ["--from-detections", str(tmp_path)]):
        assert cli.run([*command, "{camera}/{start:%Y%m%d}", *source]) == ExitCode.REFUSED
        said = one_error(capsys)
        assert said.startswith(f"source-pattern: fits none of 1 videos; {tmp_path}")
        assert said.endswith("does not fit '{camera}/{start:%Y%m%d}' as 'CAMERA/20240501' does")
    assert cli.run([*command, "{camera}/*", str(clip), "--timezone", "Mars"]) == ExitCode.REFUSED
    assert one_error(capsys).startswith("timezone: got 'Mars', expected a name such as")
    assert not (tmp_path / "out").exists()


def test_motion_that_is_asked_for_and_unknown_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "a" / "det").mkdir(parents=True)
    (tmp_path / "a" / "det" / "det.txt").write_text("1,-1,9,50,40,100,0.9,-1,-1,-1\n")
    arguments = ["track", "--from-detections", str(tmp_path), "--camera-motion"]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == ExitCode.REFUSED
    text = "camera-motion: a was saved without; name its frames with --frames SOURCE"
    assert one_error(capsys) == text


@pytest.mark.parametrize(("more", "is_said"), [([], True), (["--save-crops"], False)])
def test_a_blur_of_no_pictures_is_told(more, is_said, tmp_path, capsys):
    arguments = ["track", str(tmp_path / "none.mp4"), "--blur", "heads", *more]
    assert cli.run(arguments) == ExitCode.REFUSED
    assert (
        "note: --blur is for --save-video and --save-crops" in capsys.readouterr().err
    ) is is_said


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_takes_h(verb, capsys):
    assert cli.run([verb, "-h"]) == 0
    assert f"Usage: jde {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["trak", "x.mp4"], "; did you mean track?"),
        (["Serve"], "; did you mean serve?"),
        (["predict", "x.mp4"], "; did you mean track?"),
        (["track", "x", "--model", "m"], "No such option: --model; did you mean --weights?"),
        (["track", "x", "--save_txt"], "No such option: --save_txt; did you mean --save-mot?"),
        (["track", "x", "--classes", "0"], "No such option: --classes; people are the only class"),
        (["count", "x", "--line", "1"], "No such option: --line; did you mean --config?"),
        (["eval", "x", "--tracker", "m"], "No such option: --tracker"),
        (["--hlep"], "; did you mean --help?"),
        (["version"], "; did you mean --version?"),
        (["videos/x.mp4", "--out", "o"], "; did you mean jde track videos/x.mp4 --out o?"),
        (["@list.txt"], "; did you mean jde track @list.txt?"),
        (["zebra"], "doctor, --help"),
        (["track", "x", "--ovrwrite"], "No such option: --ovrwrite; did you mean --overwrite?"),
        (["track", "x", "--save-vidoe"], "did you mean --save-video?"),
        (["bench", "netwrk"], "No such command 'netwrk'; did you mean 'network'?"),
        (["track", "a.mp4", "--weights", "smal"], "(shipped: open, small); did you mean small?"),
    ],
)
def test_a_misspelt_word_gets_the_nearest_one(arguments, end, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", 1)
    assert cli.run(arguments) == ExitCode.REFUSED
    assert one_error(capsys).endswith(end)


def test_the_first_word_comes_before_torch_and_ray_are_imported(tmp_path):
    """They take seconds each, on a busy machine half a minute."""
    code = (
        "import sys\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'ray'):\n"
        "            import time; time.sleep(1)\n"
        "            sys.exit(7)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from jobs.cli import run\n"
        "run(sys.argv[1:])"
    )
    video = write_video(tmp_path / "a.mp4", 1)
    for more, said in (
        (["--progress", "auto"], "1 video: loading the network"),
        (["--quiet"], ""),
    ):
        command = [sys.executable, "-c", code, "track", str(video), "--out", str(tmp_path / "o")]
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 7, done.stderr
        assert done.stderr.decode().splitlines()[-1:] == ([said] if said else [])
        assert done.stdout == b""
    assert not (tmp_path / "o").exists()  # nothing was written yet


def test_an_out_that_cannot_be_reached_is_refused_before_anything_starts(capsys, run_track):
    from jde_ray.pipelines.storage import s3_client

    def nobody() -> None:
        raise s3_client.StorageError("list s3://b/o/run.json: no answer from http://x:1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_client, "client", nobody)
        code, calls = run_track("--out", "s3://b/o")
    assert (code, calls) == (ExitCode.REFUSED, [])
    said = one_error(capsys)
    assert said.startswith("out: s3://b/o cannot be used (list s3://b/o/run.json: no answer from")


def test_json_is_all_that_a_run_prints_on_standard_output(run_track, capsys):
    rows = [VideoRow(video_id="b", video="/b", status="failed", error="truncated: too short")]
    code, _ = run_track(
        "--out", "o", "--progress", "json", rows=rows, exit_code=ExitCode.SOME_FAILED
    )
    out, err = capsys.readouterr()
    objects = [json.loads(line) for line in out.splitlines()]
    assert [one["event"] for one in objects] == ["start", "progress", "video", "end"]
    assert objects[-1]["exit_code"] == code == 3
    assert objects[0]["videos"] == 1
    assert err == "jde: /b: truncated: too short (frame 7)\n"
    run_track("--out", "o", "--progress", "json", raises=RunError("out: no", ExitCode.REFUSED))
    out, err = capsys.readouterr()
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["exit_code"], end["error"]) == ("end", 2, "out: no")
    assert err == "jde: error: out: no\n"


def test_a_quiet_run_prints_errors_only(run_track, capsys, tmp_path):
    rows = [VideoRow(video_id="b", video="/b", status="failed", error="truncated: too short")]
    run_track("--out", "o", "--quiet", "--log-file", "run.log", rows=rows)
    assert capsys.readouterr() == ("", "jde: /b: truncated: too short (frame 7)\n")
    text = (tmp_path / "run.log").read_text()
    assert "looking for videos in a.mp4" in text
    assert "1/2 videos, 30 frames" in text
    assert "report: o/report.html" in text
    run_track("--out", "o", "--quiet", "--log-file", "run.log", raises=TypeError("inside"))
    assert one_error(capsys) == "internal: TypeError: inside (JDE_DEBUG=1 shows where)"
    assert (tmp_path / "run.log").read_text().endswith("ERROR inside\n")
    assert run_track("--out", "o", "--log-file", "no/run.log")[0] == ExitCode.REFUSED
    assert "log-file: no/run.log cannot be written" in one_error(capsys)


def test_an_interrupt_is_in_the_log_file(run_track, tmp_path):
    run_track("--out", "o", "--log-file", "run.log", exit_code=ExitCode.TERMINATED)
    assert "ERROR interrupted; run the same command" in (tmp_path / "run.log").read_text()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from jobs.cli import run; run(['--help']); "
        "heavy = {'ray', 'torch', 'cv2', 'av', 'numpy', 'typer'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_help_of_a_verb_imports_no_large_library():
    code = (
        "import sys; from jobs.cli import VERBS, run; [run([verb, '--help']) for verb in VERBS]; "
        "heavy = {'ray', 'torch', 'cv2', 'av', 'pyarrow', 'boto3'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "got 'nope', expected track"),
        (["track"], "Missing argument 'SOURCE'"),
        (["track", "a.mp4", "--from-detections", "b"], "SOURCE and --from-detections"),
        (["track", "--from-detections", "none"], "none does not exist"),
        (["track", "a.mp4", "--frames", "b"], "frames: only for --from-detections"),
        (
            ["track", "--from-detections", "b", "--frames", "b", "--no-camera-motion"],
            "frames: they show how the camera moves, which these settings do not use",
        ),
        (["track", "--from-detections", "x", "--nms", "0.5"], "nms_threshold: nothing is detected"),
        (["track", "a.mp4", "--association", "magic"], "association: got 'magic'"),
        (["track", "a.mp4", "--score-map", "magic"], "score-map: got 'magic'"),
        (["track", "a.mp4", "--speed", "3"], "No such option: --speed"),
        (["track", "a.mp4", "--conf", "high"], "--conf"),
        (["track", "a.mp4", "--conf", "3"], "conf: got 3.0, expected 0.0 to 1.0"),
        (["track", "a.mp4", "--imgsz", "100"], "size: got 100x100"),
        (["track", "a.mp4", "--config", "no.yaml"], "config: no.yaml cannot be read"),
        (["track", "no.mp4"], "no video found: no.mp4 does not exist"),
        (["track", "list.txt"], "list.txt is a text, no video; a list of sources is named @list"),
        (["track", "a.mp4", "--weights", "no.pt"], "weights: no.pt"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.mp4\n")
    assert cli.run(arguments) == ExitCode.REFUSED
    assert message in one_error(capsys)
    assert not (tmp_path / "runs").exists()


def test_flags_reach_the_dataflow(run_track, capsys):
    code, calls = run_track("--out", "o", "--conf-thres", "0.3", "--device", "cpu", "--save-mot")
    assert code == ExitCode.DONE
    (sources, out, config), given = calls[0]
    # what was found before anything was imported: an archive is listed once
    assert ([video.name for video in sources.videos], out) == (["a"], "o")
    assert config.tracking.high_score == 0.3
    assert given["resources"].device == "cpu"
    assert given["outputs"].save_mot
    assert not given["overwrite"]
    captured = capsys.readouterr()
    assert "1/2 videos, 30 frames, 10.0 frames/s, 0:03 left" in captured.err
    assert "written to o" in captured.out


def test_failed_videos_are_listed_a_line_each(run_track, capsys):
    rows = [
        VideoRow(
            video_id="a-1", video="/v/a.mp4", status="done", frames=10, rows=3, tracks=1, length_s=5
        ),
        VideoRow(
            video_id="b-2", video="/v/b[1].mp4", status="failed", error="truncated: too short"
        ),
    ]
    code, _ = run_track("--out", "o", rows=rows, exit_code=ExitCode.SOME_FAILED)
    assert code == 3
    out, err = capsys.readouterr()
    assert "jde: /v/b[1].mp4: truncated: too short (frame 7)" in err.splitlines()
    assert any(line.split() == ["a-1", "1", "10", "0:05"] for line in out.splitlines())
    assert any(line.split() == ["b-2", "failed", "(truncated)"] for line in out.splitlines())
    assert "left out: 1 boxes of tracks, too small (--min-box-area)" in out
    assert "2 frames were damaged" in out


def test_what_is_missing_of_earlier_videos_is_looked_for(tmp_path):
    source = fakes.archive(tmp_path / "in", a=fakes.Script(frames=9))
    out, all_of_it = str(tmp_path / "out"), OutputConfig(save_detections=True, save_embeddings=True)
    lines = []
    for outputs in (OutputConfig(), OutputConfig(save_detections=True), all_of_it, all_of_it):
        for again in (True, False):  # written, and then asked for once more
            done = reference.track(
                [str(source)],
                out,
                fakes.CONFIG,
                components=fakes.COMPONENTS,
                outputs=outputs,
                overwrite=again,
            )
            lines.append(track_job._missing_outputs(done, outputs))
            if again:
                lines[-1] += track_job._missing_outputs(replace(done, videos=[]), all_of_it)
        lines.append(track_job._missing_outputs(done, all_of_it))
    told = [[line.split(" of ")[0] for line in each] for each in lines]
    both = ["no detections", "no embeddings"]
    assert told == [[], [], both, [], [], both[1:], [], [], [], [], [], []]


def test_without_out_every_run_has_a_folder_of_its_own(run_track):
    _, calls = run_track()
    assert calls[0][0][1] == "runs/track/a"
    Path("runs/track/a").mkdir(parents=True)
    run_track()
    assert calls[1][0][1] == "runs/track/a-2"


@pytest.mark.parametrize(
    ("raises", "code", "message"),
    [
        (RunError("out: other configuration", ExitCode.OTHER_CONFIGURATION), 4, "out: other"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (TypeError("a\nb"), 1, "internal: TypeError: a b"),
    ],
)
def test_what_goes_wrong_inside_is_one_line(run_track, capsys, raises, code, message):
    assert run_track("--out", "o", raises=raises)[0] == code
    assert message in one_error(capsys)


def test_an_interrupted_run_says_how_to_go_on(run_track, capsys):
    assert run_track("--out", "o", exit_code=ExitCode.TERMINATED)[0] == 143
    assert "--out o" in capsys.readouterr().err


def test_a_traceback_only_where_it_is_asked_for(capsys, monkeypatch):
    def broken() -> None:
        """Fail."""
        raise TypeError("inside")

    assert runner.run_verb(broken, "broken", []) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("JDE_DEBUG", "1")
    assert runner.run_verb(broken, "broken", []) == 1
    assert "Traceback" in capsys.readouterr().err


def test_weights_are_checked_and_give_the_size(tmp_path):
    from jde_ray.models.jde.config import CONFIGURATIONS
    from jde_ray.models.jde.network import JDE
    from jde_ray.models.jde.weights import save

    path = tmp_path / "w.safetensors"
    config = CONFIGURATIONS["small"]
    save(JDE(config), path)
    weights = {("detection", "weights"): str(path)}
    settings = track_job.check_weights(weights)
    assert settings.track.detection.size == config.size
    assert len(settings.track.detection.weights_sha256) == 64
    assert settings.track.detection.rect
    other = track_job.check_weights(weights | {("detection", "size"): (320, 192)})
    assert other.track.detection.size == (320, 192)
    assert not other.track.detection.rect
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError) as caught:
        track_job.check_weights(weights)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_doctor_names_versions_and_the_licence_of_the_weights(capsys, tmp_path, monkeypatch):
    from jde_ray.models import cards
    from jde_ray.models.jde import weights
    from jde_ray.models.jde.config import CONFIGURATIONS
    from jde_ray.models.jde.network import JDE

    monkeypatch.setattr(cards, "JOINT", replace(cards.JOINT, folder=tmp_path))
    name = DetectionConfig().weights
    weights.save(
        JDE(CONFIGURATIONS["small"]),
        tmp_path / f"{name}.safetensors",
        {"licence": "CC BY-NC-SA 3.0"},
    )
    assert doctor.doctor(out=str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "LICENCE of these weights: CC BY-NC-SA 3.0" in text
    assert all(word in text for word in ("ray", "torch", "av", "gpu", "can be written"))
    (tmp_path / f"{name}.safetensors").write_bytes(b"broken")
    assert doctor.doctor(out=str(tmp_path)) == 1
    assert "FAIL" in capsys.readouterr().out


def test_sigterm_at_any_time_is_one_line_and_its_own_exit_code():
    program = (
        "import sys, time\n"
        "from jde_ray.jobs.console.runner import run_verb\n"
        "def verb() -> int:\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.exit(run_verb(verb, 'verb', []))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "up\n"
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == ExitCode.TERMINATED
    assert len(said.splitlines()) == 1
    assert said.startswith("jde: error: interrupted; run the same command to continue")

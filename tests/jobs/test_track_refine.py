"""`jde track --refine`: the run's own rows, and refined ones beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import Script
from made_videos import write_images
from onnx_models import write_declaration, write_mean_embedder

from jde_ray.jobs import cli
from jde_ray.jobs import track as track_job
from jde_ray.jobs.console.options import Settings
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.tracking import offline, reference


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two videos; `jde track` runs in this process with a fake network."""

    def run(sources: object, out: str, _: object, **settings: object) -> object:
        settings.pop("progress")
        return reference.track(sources, out, fakes.CONFIG, components=fakes.COMPONENTS, **settings)

    def check(values: dict, **_: object) -> Settings:
        built = track_job.build_settings(values)
        return Settings(fakes.CONFIG, ResourceConfig(), built.outputs, built.console)

    monkeypatch.setattr(offline, "track", run)
    monkeypatch.setattr(track_job, "check_weights", check)
    return fakes.archive(tmp_path / "in", a=Script(frames=43), b=Script(frames=12, seed=2))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_refined_tracks_lie_beside_the_runs_own(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "out"
    arguments = ["track", str(archive), "--out"]
    assert cli.run([*arguments, str(plain), "--save-embeddings"]) == 0
    assert cli.run([*arguments, str(out), "--refine"]) == 0  # which implies --save-embeddings
    said = capsys.readouterr().out
    assert f"written to {out}: tracks/VIDEO.parquet, refined/tracks/VIDEO.parquet" in said
    assert f"refined into {out}/refined: " in said
    assert "of 2 videos became" in said
    assert contents(out / "tracks") == contents(plain / "tracks")
    hashes = [
        json.loads((folder / "run.json").read_text())["config_hash"]
        for folder in (plain, out, out / "refined")
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert set(contents(out / "refined" / "tracks")) == set(contents(out / "tracks"))
    for path in (out / "refined" / "tracks").iterdir():
        assert b"refined" in pq.read_metadata(path).metadata


def test_a_second_call_refines_what_is_missing(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["track", str(archive), "--out", str(out)]
    assert cli.run(arguments) == 0
    assert not (out / "refined").exists()
    assert cli.run([*arguments, "--refine"]) == 0
    said = capsys.readouterr().out
    assert "2 videos refined by motion alone: their tracks have no embeddings" in said
    assert "no embeddings of 2 done before; --overwrite processes them again" in said
    kept, lost = sorted((out / "refined" / "tracks").iterdir())
    content = lost.read_bytes()
    lost.unlink()
    since = kept.stat().st_mtime_ns
    assert cli.run([*arguments, "--refine"]) == 0
    assert "of 1 video became" in (said := capsys.readouterr().out)
    assert ", 1 done before" in said
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == since


def test_a_video_that_cannot_be_refined_is_told_and_the_others_are_refined(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["track", str(archive), "--out", str(out)]
    assert cli.run(arguments) == 0
    bad, _ = sorted((out / "tracks").iterdir())
    table = pq.ParquetFile(bad).read()
    score = table.schema.get_field_index("score")
    table = table.set_column(score, "score", table.column("score").cast("string"))
    pq.write_table(table, bad)
    capsys.readouterr()
    assert cli.run([*arguments, "--refine"]) == 3
    said = capsys.readouterr()
    assert "of 1 video became" in said.out
    assert ", 1 video failed" in said.out
    reason = "score: got values of type string, expected numbers"
    assert f"jde: refined: {bad}: {reason}; its tracks are done\n" in said.err
    assert cli.run([*arguments, "--refine", "--progress", "json"]) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["exit_code"] == 3


def test_a_look_that_is_left_to_the_refinement_needs_one(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["track", str(archive), "--out", str(tmp_path / "out"), "--reid", "look.onnx"]
    assert cli.run([*arguments, "--reid-mode", "offline"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "reid-mode: got offline, expected --refine with it" in line
    assert cli.run([*arguments, "--reid-mode", "offline", "--refine"]) == 2
    assert "reid: " in capsys.readouterr().err  # there is no such file
    assert cli.run([*arguments, "--reid-mode", "often"]) == 2
    assert "expected 'always', 'needed' or 'offline'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_refinement_looks_at_the_videos_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def run(sources: object, out: str, config: object, **settings: object) -> object:
        settings.pop("progress")
        return reference.track(sources, out, config, **settings)

    def draw(number: int, width: int, height: int) -> np.ndarray:
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[10:50, 20 + number : 40 + number, 0] = 255
        return frame

    monkeypatch.setattr(offline, "track", run)
    videos = write_images(tmp_path / "S", 12, 10.0, size=(128, 64), draw=draw)
    look, weights = write_mean_embedder(tmp_path / "look.onnx"), write_declaration(tmp_path)
    arguments = ["track", str(videos), "--weights", str(weights), "--conf", "0.3", "--out"]
    assert cli.run([*arguments, str(tmp_path / "plain")]) == 0
    capsys.readouterr()
    out = tmp_path / "out"
    more = ["--reid", str(look), "--reid-mode", "offline", "--refine"]
    assert cli.run([*arguments, str(out), *more]) == 0
    said = capsys.readouterr().out
    assert re.search(r"second look: [1-9]\d* crops of [1-9]\d* boxes", said)
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("plain", "out")]
    assert records[0]["config_hash"] == records[1]["config_hash"]
    refined = json.loads((out / "refined" / "run.json").read_text())["config"]["refined"]
    assert refined["reid_sha256"] == records[1]["config"]["detection"]["reid_sha256"]
    assert cli.run([*arguments, str(out), *more]) == 0  # all is done
    assert cli.run([*arguments, str(out), "--refine"]) == 2  # other steps


def test_refined_tracks_of_other_steps_are_refused_before_the_run(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["track", str(archive), "--out", str(out)]
    assert cli.run(arguments) == 0
    assert cli.run(["refine", str(out), "--out", str(out / "refined"), "--smooth"]) == 0
    capsys.readouterr()
    assert cli.run([*arguments, "--refine"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "holds tracks refined by other steps" in output.err


def test_json_stays_alone_on_standard_output(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert cli.run(["track", str(archive), "--out", out, "--refine", "--progress", "json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        json.loads(line)
    assert (tmp_path / "out" / "refined" / "run.json").exists()

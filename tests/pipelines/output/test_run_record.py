from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from places import ROOT

from jde_ray.pipelines.config import VERSION, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.output.run_record import committed_outcome, file_metadata, open_out
from jde_ray.pipelines.output.summary import put_summary, summarize
from jde_ray.pipelines.output.work import Work
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome

A, B, C = (Video(f"/archive/{name}.mp4", name) for name in "abc")
GONE = VideoError(Reason.NOT_FOUND, "no such file")


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_a_run_is_recorded_once(tmp_path: Path) -> None:
    store = open_out(str(tmp_path), fakes.CONFIG, ResourceConfig())
    before = store.get("run.json")
    open_out(str(tmp_path), fakes.CONFIG, ResourceConfig(chunk_frames=4, torch_threads=2))
    assert store.get("run.json") == before
    record = json.loads(before)
    assert record["config_hash"] == fakes.CONFIG.hash()
    assert record["resources"]["torch_threads"] == 1
    assert set(record["versions"]) >= {"jde-ray", "python", "ray", "torch", "numpy"}


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    open_out(str(tmp_path), fakes.CONFIG, ResourceConfig())
    before = fakes.CONFIG.detection.score_threshold
    detection = replace(fakes.CONFIG.detection, score_threshold=0.25)
    other = replace(fakes.CONFIG, detection=detection, vid_stride=2)
    with pytest.raises(RunError) as refused:
        open_out(str(tmp_path), other, ResourceConfig())
    assert refused.value.exit_code == ExitCode.OTHER_CONFIGURATION
    assert f"detection.score_threshold: {before} there, 0.25 here" in str(refused.value)
    assert "vid_stride: 1 there, 2 here" in str(refused.value)
    assert "choose another --out, or the settings there (--overwrite does" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_networks_are_named_and_not_only_their_fingerprints(tmp_path: Path) -> None:
    def with_networks(**networks: str) -> TrackConfig:
        return replace(fakes.CONFIG, detection=replace(fakes.CONFIG.detection, **networks))

    small = with_networks(weights="small", weights_sha256="1" * 64, reid="none")
    looked = with_networks(
        weights="open", weights_sha256="2" * 64, reid="colours", reid_sha256="3" * 64
    )
    changed = with_networks(weights="small", weights_sha256="4" * 64, reid="none")
    open_out(str(tmp_path), small, ResourceConfig())
    named = r"\(reid: none there, colours here; weights: small there, open here\); choose"
    with pytest.raises(RunError, match=named):
        open_out(str(tmp_path), looked, ResourceConfig())
    with pytest.raises(RunError, match=f"\\(sha256 of weights: {'1' * 64} there, {'4' * 64} here"):
        open_out(str(tmp_path), changed, ResourceConfig())


def test_the_same_weights_under_another_name_are_the_same_run(tmp_path: Path) -> None:
    open_out(str(tmp_path), fakes.CONFIG, ResourceConfig())
    moved = replace(fakes.CONFIG, detection=replace(fakes.CONFIG.detection, weights="/x/fake"))
    open_out(str(tmp_path), moved, ResourceConfig())
    assert file_metadata(moved)["model"] == "fake"


def test_an_out_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, reason in (
        (str(tmp_path / "file"), "where a file is in the way; expected a folder"),
        (str(tmp_path / "file" / "out"), "where a file is in the way; expected a folder"),
        ("ftp://host/out", "expected a local path or s3://bucket/prefix"),
    ):
        with pytest.raises(RunError, match=rf"^out: got \S+, {reason}$") as refused:
            open_out(out, fakes.CONFIG, ResourceConfig())
        assert refused.value.exit_code == ExitCode.REFUSED


def test_the_summary_adds_up(tmp_path: Path) -> None:
    outcomes = [
        VideoOutcome(A, Counts(10, 1, 50, 40, 4, {"min_box_area": 10}), 0.5),
        VideoOutcome(B, Counts(5, 0, 9, 9, 1, {"min_box_area": 1}), 0.5, GONE),
    ]
    summary = summarize("out", Work([], [C], []), outcomes, {"wall": 3.0, "decode": 0.0}, passes=2)
    assert (summary.videos_done, summary.videos_failed, summary.videos_skipped) == (1, 1, 1)
    assert (summary.frames, summary.damaged, summary.rows, summary.tracks) == (15, 1, 49, 5)
    assert summary.dropped == {"min_box_area": 11}
    assert summary.frames_per_second == {"wall": 5.0, "associate": 15.0}
    assert [row.status for row in summary.videos] == ["done", "failed", "skipped"]
    assert summary.errors[0]["reason"] == "not_found"
    assert summary.exit_code == ExitCode.SOME_FAILED
    assert json.loads(summary.to_json())["exit_code"] == 3
    done = summarize("out", Work([], [C], []), outcomes[:1], {})
    assert done.exit_code == ExitCode.DONE
    stopped = summarize("out", Work([], [], []), outcomes, {}, interrupted=ExitCode.TERMINATED)
    assert stopped.exit_code == 143


def test_the_store_knows_how_a_video_ended(tmp_path: Path) -> None:
    from jde_ray.pipelines.tracking import reference

    fakes.archive(tmp_path / "in", a=fakes.Script(), b=fakes.Script(error_at=20))
    out = str(tmp_path / "out")
    summary = reference.track(
        [str(tmp_path / "in")], out, fakes.CONFIG, components=fakes.COMPONENTS
    )
    store = open_store(out)
    for row in summary.videos:
        ended = committed_outcome(store, Video(row.video, Path(row.video).stem))
        assert ended is not None
        if row.status == "done":
            assert (ended.counts.frames, ended.counts.rows) == (row.frames, row.rows)
            assert ended.counts.tracks == row.tracks
            assert ended.counts.detections == row.detections > 0
        else:
            assert str(ended.error) == row.error
    assert committed_outcome(store, C) is None


def test_a_summary_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(RunError, match=r"summary\.json cannot be written .*the tracks are there"):
        put_summary(store, summarize("x", Work([], [], []), [], {}), (1, 1))
    stopped = summarize("x", Work([], [], []), [], {}, interrupted=ExitCode.INTERRUPTED)
    put_summary(store, stopped, (1, 1))  # how to go on is said, and its exit code kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"config": 3}',
        '{"config": {}, "config_hash": 3}',
        "\0",
    ],
)
def test_a_run_record_of_another_shape_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json cannot be read .* put back") as refused:
        open_out(str(tmp_path), fakes.CONFIG, ResourceConfig())
    assert refused.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(refused.value)

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from pipelines.config import VERSION, ResourceConfig
from pipelines.errors import ExitCode, Reason, RunError, VideoError
from pipelines.run_record import (
    Work,
    committed_outcome,
    file_metadata,
    open_out,
    plan_work,
    summarize,
)
from pipelines.schema import Counts, Video, VideoOutcome
from pipelines.sink import error_key, tracks_key, video_key, write_error
from pipelines.storage import open_store

A, B, C = (Video(f"/archive/{name}.mp4", name) for name in "abc")
GONE = VideoError(Reason.NOT_FOUND, "no such file")


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
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
    assert "\n" not in str(refused.value)


def test_the_same_weights_under_another_name_are_the_same_run(tmp_path: Path) -> None:
    open_out(str(tmp_path), fakes.CONFIG, ResourceConfig())
    moved = replace(fakes.CONFIG, detection=replace(fakes.CONFIG.detection, weights="/x/fake"))
    open_out(str(tmp_path), moved, ResourceConfig())
    assert file_metadata(moved)["model"] == "fake"


def test_an_out_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (str(tmp_path / "file" / "out"), "ftp://host/out"):
        with pytest.raises(RunError, match="out: ") as refused:
            open_out(out, fakes.CONFIG, ResourceConfig())
        assert refused.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize(
    ("flags", "todo", "skipped", "failed"),
    [
        ({}, [C], [A], [B]),
        ({"retry_errors": True}, [B, C], [A], []),
        ({"overwrite": True}, [A, B, C], [], []),
    ],
)
def test_only_what_is_missing_is_done(
    tmp_path: Path,
    flags: dict[str, bool],
    todo: list[Video],
    skipped: list[Video],
    failed: list[Video],
) -> None:
    store = open_store(str(tmp_path))
    store.put(tracks_key(A.video_id), b"")
    store.put(video_key(A.video_id), b"")
    write_error(store, B, GONE)
    both = {"overwrite": False, "retry_errors": False} | flags
    work = plan_work(store, [A, B, C], [], **both)
    assert (work.todo, work.skipped) == (todo, skipped)
    assert [outcome.video for outcome in work.failed] == failed
    assert not any(store.exists(error_key(video.video_id)) for video in todo)
    assert not any(store.exists(tracks_key(video.video_id)) for video in todo)
    assert store.exists(video_key(A.video_id)) == (A not in todo)


@pytest.mark.parametrize(("overwrite", "left"), [(False, [C]), (True, [])])
def test_checkpoints_of_videos_that_ended_are_cleared(
    tmp_path: Path, overwrite: bool, left: list[Video]
) -> None:
    store = open_store(str(tmp_path))
    store.put(tracks_key(A.video_id), b"")
    write_error(store, B, GONE)
    keys = {video: f"checkpoints/{video.video_id}/t/000000000008/state.npz" for video in (A, B, C)}
    for key in keys.values():
        store.put(key, b"")
    plan_work(store, [A, B, C], [], overwrite=overwrite, retry_errors=False)
    assert [video for video, key in keys.items() if store.exists(key)] == left


def test_a_source_without_a_video_fails_and_is_recorded(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for _ in range(2):
        work = plan_work(store, [A], [(B, GONE)], overwrite=False, retry_errors=False)
        assert [outcome.video for outcome in work.failed] == [B]
        assert store.exists(error_key(B.video_id))


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
    from pipelines import reference

    fakes.archive(tmp_path / "in", a=fakes.Script(), b=fakes.Script(error_at=20))
    out = str(tmp_path / "out")
    summary = reference.track([str(tmp_path / "in")], out, fakes.CONFIG, parts=fakes.PARTS)
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

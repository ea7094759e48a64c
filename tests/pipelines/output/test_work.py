"""What is done, what is left alone, and what is there while a video is done anew."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from fakes import Script

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.output import work as work_module
from jde_ray.pipelines.output.checkpoints import find_videos as with_checkpoints
from jde_ray.pipelines.output.layout import (
    detections_key,
    error_key,
    mot_key,
    summary_key,
    tracks_key,
    video_key,
)
from jde_ray.pipelines.output.result_files import record_failure, write_error
from jde_ray.pipelines.output.run_record import open_out
from jde_ray.pipelines.output.summary import Summary, summarize
from jde_ray.pipelines.output.work import Work, accept, plan_work, read_row
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import StorageError, open_store
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.tracking import from_detections, offline, reference, run
from jde_ray.pipelines.tracking.stages.session import VideoSession

A, B, C = (Video(f"/archive/{name}.mp4", name) for name in "abc")
GONE = VideoError(Reason.NOT_FOUND, "no such file")
ALL = OutputConfig(save_mot=True, save_detections=True)
SMALL = ResourceConfig(chunk_frames=8)


def state_key(video: Video) -> str:
    return f"checkpoints/{video.video_id}/t/000000000008/state.npz"


@pytest.mark.parametrize(
    ("flags", "todo", "skipped", "failed", "stale"),
    [
        ({}, [C], [A], [B], []),
        ({"retry_errors": True}, [B, C], [A], [], [B]),
        ({"overwrite": True}, [A, B, C], [], [], [A, B]),
    ],
)
def test_only_what_is_missing_is_done_and_nothing_is_removed(
    tmp_path: Path,
    flags: dict[str, bool],
    todo: list[Video],
    skipped: list[Video],
    failed: list[Video],
    stale: list[Video],
) -> None:
    store = open_store(str(tmp_path))
    store.put(tracks_key(A.video_id), b"")
    store.put(video_key(A.video_id), b"")
    write_error(store, B, GONE)
    before = list(store.list(""))
    both = {"overwrite": False, "retry_errors": False} | flags
    work = plan_work(store, [A, B, C], [], **both)
    accept(store, work, (1, 1))
    assert (work.todo, work.skipped) == (todo, skipped)
    assert [outcome.video for outcome in work.failed_before] == failed
    assert work.stale == {video.video_id for video in stale}
    assert list(store.list("")) == before


@pytest.mark.parametrize(
    ("flags", "planned", "accepted"),
    [({}, [C], [C]), ({"overwrite": True}, [A, B, C], []), ({"retry_errors": True}, [B, C], [C])],
)
def test_checkpoints_of_videos_that_ended_are_cleared_others_when_the_run_is_accepted(
    tmp_path: Path, flags: dict[str, bool], planned: list[Video], accepted: list[Video]
) -> None:
    store = open_store(str(tmp_path))
    store.put(tracks_key(A.video_id), b"")
    write_error(store, B, GONE)
    for video in (A, B, C):
        store.put(state_key(video), b"")
    both = {"overwrite": False, "retry_errors": False} | flags
    work = plan_work(store, [A, B, C], [], **both)
    assert with_checkpoints(store) == {video.video_id for video in planned}
    accept(store, work, (1, 1))
    assert with_checkpoints(store) == {video.video_id for video in accepted}


def test_a_source_without_a_video_fails_and_is_recorded(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for _ in range(2):
        work = plan_work(store, [A], [(B, GONE)], overwrite=False, retry_errors=False)
        assert [outcome.video for outcome in work.failed] == [B]
        assert store.exists(error_key(B.video_id))


def test_a_source_that_is_gone_takes_no_tracks_away(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put(tracks_key(B.video_id), b"rows")
    bad = VideoError(Reason.UNSUPPORTED_FORMAT, "no list")
    work = plan_work(store, [A], [(B, bad)], overwrite=True, retry_errors=True)
    assert [outcome.error for outcome in work.failed] == [bad]
    assert store.get(tracks_key(B.video_id)) == b"rows"
    assert not store.exists(error_key(B.video_id))


def track(folder: Path, *, overwrite: bool = False, outputs: OutputConfig = ALL) -> Summary:
    return reference.track(
        [str(folder / "in")],
        str(folder / "out"),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=SMALL,
        outputs=outputs,
        overwrite=overwrite,
    )


def contents(folder: Path, *kinds: str) -> dict[str, bytes]:
    paths = [path for kind in kinds for path in (folder / "out" / kind).glob("*")]
    return {path.relative_to(folder / "out").as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("step", ["connected", "size_pools"])
def test_a_run_that_is_refused_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20), b=Script(frames=20, seed=1))
    track(tmp_path)
    before = contents(tmp_path, "tracks", "mot", "detections")

    def refuse(*given: object) -> None:
        raise RunError("no such cluster", ExitCode.REFUSED)

    monkeypatch.setattr(run, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(run, step, refuse)
    source, out = [str(tmp_path / "in")], str(tmp_path / "out")
    with pytest.raises(RunError, match="no such cluster"):
        offline.track(source, out, fakes.CONFIG, components=fakes.COMPONENTS, overwrite=True)
    saved = find_saved([out])
    config = from_detections.resolve_settings(TrackConfig(), saved)
    with pytest.raises(RunError, match="no such cluster"):
        from_detections.track(saved, out, config, overwrite=True)
    assert len(before) == 6
    assert contents(tmp_path, "tracks", "mot", "detections") == before


def test_a_video_done_anew_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", cam=Script(frames=40))
    track(tmp_path)
    old = contents(tmp_path, "tracks", "mot", "detections")
    fakes.archive(tmp_path / "in", cam=Script(frames=72, seed=5))
    assert track(tmp_path, outputs=OutputConfig()).videos_skipped == 1
    assert contents(tmp_path, "tracks", "mot", "detections") == old
    track(tmp_path, overwrite=True, outputs=OutputConfig())
    new = contents(tmp_path, "tracks", "mot", "detections")
    assert len(old) == 3
    assert [key.partition("/")[0] for key in new] == ["tracks"]
    assert new != old
    fakes.archive(tmp_path / "in", cam=Script(frames=72, seed=5, error_at=8))
    track(tmp_path, overwrite=True)
    left = contents(tmp_path, "tracks", "mot", "detections", "errors")
    assert [key.partition("/")[0] for key in left] == ["errors"]


def test_videos_that_were_not_reached_keep_their_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {f"v{i}": Script(frames=20, seed=i) for i in range(4)}
    fakes.archive(tmp_path / "in", **scripts)
    track(tmp_path)
    before = contents(tmp_path, "tracks", "mot", "detections")
    fakes.archive(tmp_path / "in", **{name: replace(s, seed=9) for name, s in scripts.items()})
    done = []

    def stop(self: VideoSession, chunk: Any) -> str:
        if len(done) == 2:  # in the middle of the third video
            raise KeyboardInterrupt
        answer = deliver(self, chunk)
        done.extend([self.video] if self.outcome is not None else [])
        return answer

    deliver = VideoSession.deliver
    monkeypatch.setattr(VideoSession, "deliver", stop)
    with pytest.raises(KeyboardInterrupt):
        track(tmp_path, overwrite=True)
    after = contents(tmp_path, "tracks", "mot", "detections")

    def by_name(files: dict[str, bytes]) -> dict[tuple[str, str], bytes]:
        # a text has its plain name from the end of a run on, which was not reached
        return {(key.partition("/")[0], key.rpartition("/")[2][:2]): files[key] for key in files}

    assert by_name(after).keys() == by_name(before).keys()
    assert len(after) == len(before)
    changed = {key for key in by_name(after) if by_name(after)[key] != by_name(before)[key]}
    assert {name for _, name in changed} == {"v0", "v1"}


class KilledError(Exception):
    """Stands for the end of the process."""


class Dying:
    """A store whose process ends before the n-th thing that it writes or removes."""

    def __init__(self, store: ObjectStore, left: int) -> None:
        self._store, self._left = store, left

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "put_if_absent", "delete"):
            self._left -= 1
            if self._left < 0:
                raise KilledError
        return getattr(self._store, name)


EVERY = tuple(range(12))  # things that are written and removed, and more


@pytest.mark.parametrize(
    ("error_at", "steps"),
    [
        (None, (3, 7, 99)),
        pytest.param(None, EVERY, marks=pytest.mark.slow),
        pytest.param(16, EVERY, marks=pytest.mark.slow),
    ],
    ids=["short", "done", "failed"],
)
def test_a_kill_at_any_point_of_a_replacement_is_made_good_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_at: int | None, steps: tuple[int, ...]
) -> None:
    kinds = ("tracks", "mot", "detections", "errors")
    monkeypatch.setattr(run, "write_report", lambda *given, **more: True)
    fakes.archive(tmp_path / "in", cam=Script(frames=20))
    track(tmp_path)
    old = contents(tmp_path, *kinds)
    (tmp_path / "out").rename(tmp_path / "old")
    fakes.archive(tmp_path / "in", cam=Script(frames=28, seed=5, error_at=error_at))
    track(tmp_path)
    new = contents(tmp_path, *kinds)
    ends: list[bool] = []
    for left in (0, *steps):
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "old", tmp_path / "out")
        with monkeypatch.context() as patch, suppress(KilledError):
            patch.setattr(run, "open_out", lambda *given, n=left: Dying(open_out(*given), n))
            track(tmp_path, overwrite=True)
        track(tmp_path)
        assert contents(tmp_path, *kinds) in (old, new)
        ends.append(contents(tmp_path, *kinds) == new)
    assert ends == sorted(ends)  # first nothing has happened, then all of it
    assert set(ends) == {False, True}


def test_a_passing_error_takes_no_tracks_away(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for error, is_kept in ((GONE, True), (VideoError(Reason.DECODE, "bad"), False)):
        for key_of in (tracks_key, mot_key, detections_key):
            store.put(key_of(A.video_id), b"old")
        told = record_failure(store, A, error, replaces=True)
        assert ("its earlier tracks were kept" in told.detail) == is_kept
        assert store.exists(tracks_key(A.video_id)) == store.exists(mot_key(A.video_id)) == is_kept
        assert store.exists(error_key(A.video_id)) != is_kept
        assert store.exists(detections_key(A.video_id)) == is_kept
        assert record_failure(store, B, error) == error  # nothing was there
        assert store.exists(error_key(B.video_id))


def test_an_interrupted_overwrite_goes_on_where_it_was(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    a, b, c = (replace(video, version="1") for video in (A, B, C))
    for video in (a, b, c):
        store.put(tracks_key(video.video_id), b"")
    flags = {"overwrite": True, "retry_errors": False}
    seen: list[list[Video]] = []
    for done in (a, b, c):
        work = plan_work(store, [a, b, c], [], **flags)
        accept(store, work, (1, 1))
        seen.append(work.todo)
        ends = [VideoOutcome(done, Counts(frames=1), 0.1)]
        stopped = None if done is c else ExitCode.INTERRUPTED
        summary = summarize("x", work, ends, {}, overwrite=True, interrupted=stopped)
        store.put(summary_key((1, 1)), summary.to_json().encode())
    assert seen == [[a, b, c], [b, c], [c]]
    assert plan_work(store, [a, b, c], [], **flags).todo == [a, b, c]  # that one had ended
    summary = summarize("x", work, ends, {}, overwrite=True, interrupted=ExitCode.TERMINATED)
    store.put(summary_key((1, 1)), summary.to_json().encode())
    other = replace(b, version="2")
    assert plan_work(store, [a, other, c], [], **flags).todo == [other]


def test_a_file_that_has_changed_since_is_told_from_what_a_summary_or_its_tracks_say(
    tmp_path: Path,
) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20), b=Script(frames=20, seed=1))
    assert track(tmp_path).changed == []
    path = fakes.archive(tmp_path / "in", b=Script(frames=120, seed=1)) / "b.mp4"
    for _ in range(2):
        summary = track(tmp_path)
        assert (summary.changed, summary.videos_skipped) == ([str(path)], 2)
        (tmp_path / "out" / "summary.json").unlink()
    track(tmp_path, overwrite=True)
    assert track(tmp_path).changed == []


def test_another_camera_or_start_than_that_of_the_rows_is_told(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=9), b=Script(frames=9, seed=1, start_us=10**15))

    def named(**columns: str) -> Summary:
        rows = [columns, dict(zip(columns, ("",) * len(columns), strict=True))]
        path = tmp_path / "list.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["source", *columns])
            writer.writeheader()
            writer.writerows(
                row | {"source": f"in/{n}.mp4"} for n, row in zip("ab", rows, strict=True)
            )
        out = str(tmp_path / "out")
        return reference.track([str(path)], out, fakes.CONFIG, components=fakes.COMPONENTS)

    first = named(camera="door")
    assert [(row.camera, row.start) for row in first.videos] == [
        ("door", None),
        (None, "2001-09-09T01:46:40+00:00"),
    ]
    assert (first.videos_without_camera, first.videos_without_start) == (1, 1)
    a = str(tmp_path / "in" / "a.mp4")
    for known_by in ("summary", "footer"):
        assert named(camera="door").relabelled == named().relabelled == [], known_by
        assert named(camera="gate").relabelled == named(start="2024-05-01").relabelled == [a]
        (tmp_path / "out" / "summary.json").unlink()
    assert [row.camera for row in named(camera="gate").videos] == ["door", None]


def test_the_folder_is_added_up_over_all_calls(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20), bad=Script(error_at=9))
    first = track(tmp_path)
    fakes.archive(tmp_path / "in", b=Script(frames=28, seed=1))
    second = track(tmp_path)
    third = track(tmp_path)
    (tmp_path / "out" / "summary.json").unlink()
    fourth = track(tmp_path)
    assert (first.folder.videos, first.folder.failed, first.folder.frames) == (1, 1, 20)
    assert (second.frames, second.videos_failed, second.videos_failed_before) == (28, 0, 1)
    assert (third.frames, third.videos_skipped) == (0, 2)
    assert (second.folder.videos, second.folder.frames) == (2, 48)
    assert second.folder == third.folder == fourth.folder
    own = [row for summary in (first, second) for row in summary.videos if row.status == "done"]
    for name in ("rows", "tracks", "detections"):
        assert getattr(third.folder, name) == sum(getattr(row, name) for row in own) > 0
    fakes.archive(tmp_path / "more", c=Script(frames=12))
    other = reference.track(
        [str(tmp_path / "more")], str(tmp_path / "out"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    assert (other.folder.videos, other.folder.frames, len(other.videos)) == (3, 60, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_length_of_a_video_is_that_of_the_frames_tracked(
    tmp_path: Path, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=50))
    config = replace(fakes.CONFIG, vid_stride=stride)
    given: dict[str, Any] = {"components": fakes.COMPONENTS}
    out, summary = tmp_path / "out", tmp_path / "out/summary.json"
    lengths = []
    for _ in range(2):
        done = reference.track([str(tmp_path / "in")], str(out), config, **given)
        lengths += [row.length_s for row in done.videos]
    values = json.loads(summary.read_text())
    del values["videos"][0]["length_s"]  # an earlier version wrote it
    for few in (0, 1):
        monkeypatch.setattr(work_module, "_FEW", few)
        summary.write_text(json.dumps(values))
        done = reference.track([str(tmp_path / "in")], str(out), config, **given)
        assert [row.frames for row in done.videos] == [50 // stride]
        lengths += [row.length_s for row in done.videos]
    summary.unlink()
    done = reference.track([str(tmp_path / "in")], str(out), config, **given)
    lengths += [row.length_s for row in done.videos]
    assert lengths == [2.0, 2.0, 0.0, 2.0, 2.0]


def test_what_failed_before_is_no_failure_of_this_call(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20), bad=Script(error_at=9))
    codes = [track(tmp_path).exit_code for _ in range(2)]
    assert codes == [ExitCode.SOME_FAILED, ExitCode.DONE]
    summary = track(tmp_path)
    assert (summary.videos_failed, summary.videos_failed_before, summary.errors) == (0, 1, [])
    (row,) = [row for row in summary.videos if row.status == "failed before"]
    assert row.error == "truncated: the script says so (frame 9)"
    again = reference.track(
        [str(tmp_path / "in")],
        str(tmp_path / "out"),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        retry_errors=True,
    )
    assert (again.exit_code, again.videos_failed) == (ExitCode.SOME_FAILED, 1)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[1]", b"null", b"7", b'{"reason": 1}', b"\xff\xfe"]
)
def test_a_record_or_a_summary_that_cannot_be_read_ends_no_run(
    tmp_path: Path, damage: bytes
) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20), bad=Script(error_at=9))
    track(tmp_path)
    (record,) = (tmp_path / "out" / "errors").iterdir()
    record.write_bytes(damage)
    (tmp_path / "out" / "summary.json").write_bytes(damage)
    (tmp_path / "out" / "report.html").unlink()
    summary = track(tmp_path)
    (row,) = [row for row in summary.videos if row.status == "failed before"]
    assert row.error is not None
    assert f"errors/{record.name} cannot be read" in row.error
    assert "--retry-errors does the video again" in row.error
    assert row.error in (tmp_path / "out" / "report.html").read_text().replace("&#x27;", "'")


def test_tracks_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20))
    track(tmp_path)
    (tracks,) = (tmp_path / "out" / "tracks").iterdir()
    tracks.write_bytes(tracks.read_bytes()[:-9])
    (tmp_path / "out" / "summary.json").unlink()
    (row,) = track(tmp_path).videos
    assert row.error is not None
    assert "cannot be read" in row.error
    assert "delete it, and the same command does the video" in row.error


def test_rows_of_another_shape_are_not_taken_from_a_summary(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=20))
    frames = track(tmp_path).folder.frames
    path = tmp_path / "out" / "summary.json"
    good = json.loads(path.read_text())
    for name, value in (("frames", "x"), ("frames", None), ("rows", 1.5), ("version", 3)):
        values = {**good, "videos": [{**good["videos"][0], name: value}]}
        path.write_text(json.dumps(values))
        assert track(tmp_path).folder.frames == frames
    assert Work([], [], []).known == {}


def test_partitions_leave_each_others_summaries_and_one_run_over_all_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {f"v{i}": Script(frames=9, seed=i) for i in range(3)}
    source = [str(fakes.archive(tmp_path / "in", **scripts))]
    out, store = str(tmp_path / "out"), open_store(str(tmp_path / "out"))
    given: dict[str, Any] = {"components": fakes.COMPONENTS}
    for overwrite in (False, True):
        for part in ("1/2", "2/2"):
            shared = ResourceConfig(chunk_frames=8, partition=part)
            reference.track(
                source, out, fakes.CONFIG, resources=shared, overwrite=overwrite, **given
            )
    assert list(store.list("summary")) == ["summary-1-of-2.json", "summary-2-of-2.json"]
    with monkeypatch.context() as patch:
        patch.setattr("jde_ray.pipelines.output.work.read_row", None)  # no file is opened
        assert reference.track(source, out, fakes.CONFIG, **given).folder.frames == 27
    ((video, *_), _) = find_videos(source)
    for share, left in (((1, 3), ["summary-2-of-3.json"]), ((1, 1), [])):
        store.put("summary-2-of-3.json", b"")
        work = plan_work(store, [video], [], overwrite=True, retry_errors=False)
        accept(store, work, share)
        assert list(store.list("summary")) == left


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (StorageError("head s3://b/x: 503 SlowDown after 21 tries in 117 s"), "once it can"),
        (PermissionError("head s3://b/x: 403"), "once it can"),
        (OSError("Couldn't deserialize thrift"), "delete it"),
    ],
)
def test_nobody_is_told_to_delete_tracks_that_a_store_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, remedy: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(work_module, "open_parquet", fail)
    row = read_row(open_store(str(tmp_path)), A.video_id, vid_stride=1)
    assert row.error is not None
    assert str(error) in row.error
    assert remedy in row.error

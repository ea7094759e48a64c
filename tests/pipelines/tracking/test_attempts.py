"""Planning again, without Ray: what is yielded, and who is blamed in the end."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import fakes
import pytest
from made_videos import write_video
from ray.exceptions import (
    GetTimeoutError,
    RayActorError,
    RayTaskError,
    UserCodeException,
    WorkerCrashedError,
)

from jde_ray.pipelines.config import OutputConfig, ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.output.checkpoints import find_states
from jde_ray.pipelines.output.layout import tracks_key
from jde_ray.pipelines.output.result_files import write_error
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Counts, Segment, Video, VideoOutcome
from jde_ray.pipelines.tracking.attempts import MAX_IDLE, MAX_TRIES, Attempts
from jde_ray.pipelines.tracking.failures import may_succeed_again
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.tracking.stages.session import Checkpointing, VideoSession
from jde_ray.pipelines.tracking.stages.shard_client import shard_of
from jde_ray.pipelines.tracking.stall_verdict import StalledError
from jde_ray.pipelines.tracking.tally import Tally
from jde_ray.pipelines.video.chunks import decode_segment

VIDEOS = [Video(f"/archive/{name}.mp4", name) for name in "abc"]


def passes(tmp_path: Path) -> Attempts:
    tally = Tally(fakes.CONFIG, 0, None)
    return Attempts(open_store(str(tmp_path)), fakes.CONFIG, OutputConfig(), tally)


def done(tmp_path: Path, video: Video) -> dict[str, VideoOutcome]:
    open_store(str(tmp_path)).put(tracks_key(video.video_id), b"rows")
    return {video.video_id: VideoOutcome(video, Counts(frames=1), 0.1)}


def test_only_what_did_not_end_is_planned_again_as_the_next_attempt(tmp_path: Path) -> None:
    own, planned, names = passes(tmp_path), [], set()
    for name, segments in own.plan(VIDEOS):
        names.add(name)
        planned.append([(segment.video.name, segment.attempt) for segment in segments])
        own.outcomes |= done(tmp_path, segments[0].video)
    assert planned == [[("a", 0), ("b", 0), ("c", 0)], [("b", 1), ("c", 1)], [("c", 2)]]
    assert len(names) == own.count == 3


def test_a_large_archive_goes_through_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jde_ray.pipelines.tracking.attempts.BATCH_VIDEOS", 2)
    own, planned, names = passes(tmp_path), [], set()
    for name, segments in own.plan(VIDEOS):
        names.add(name)
        planned.append([(segment.video.name, segment.attempt) for segment in segments])
        if segments[0].video.name != "b":
            own.outcomes |= done(tmp_path, segments[0].video)
        if segments[0].attempt == 2:
            own.outcomes |= done(tmp_path, segments[0].video)
    assert planned == [[("a", 0), ("b", 0)], [("c", 0)], [("b", 1)], [("b", 2)]]
    assert (own.count, len(names)) == (3, 4)


def test_a_batch_that_achieves_nothing_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jde_ray.pipelines.tracking.attempts.BATCH_VIDEOS", 1)
    own = passes(tmp_path)
    planned = own.plan(VIDEOS)
    _, segments = next(planned)
    own.outcomes |= done(tmp_path, segments[0].video)
    next(planned)
    own._trouble = ImportError("no module x")
    with pytest.raises(RunError, match="no module x"):
        next(planned)
    assert own.count == 1


def test_what_was_committed_before_its_actor_died_is_not_done_again(tmp_path: Path) -> None:
    own = passes(tmp_path)
    for _, segments in own.plan(VIDEOS[:1]):
        error = VideoError(Reason.DECODE, "bad", 3)
        write_error(open_store(str(tmp_path)), segments[0].video, error)
    assert own.count == 1
    assert str(own.outcomes[VIDEOS[0].video_id].error) == "decode: bad (frame 3)"


def test_a_video_that_ends_its_workers_in_every_pass_fails(tmp_path: Path) -> None:
    own = passes(tmp_path)
    for _, segments in own.plan(VIDEOS):
        own._tries[VIDEOS[0].video_id] += 1  # as `run` counts what was under way
        for segment in segments[1:]:
            own.outcomes |= done(tmp_path, segment.video)
    assert own.count == MAX_TRIES
    assert str(own.outcomes[VIDEOS[0].video_id].error) == "worker_died: not finished in 3 tries"
    assert list(open_store(str(tmp_path)).list("errors/")) != []


def test_a_video_that_only_waited_behind_lost_workers_is_never_to_blame(tmp_path: Path) -> None:
    """An actor is lost in every pass, after one video of many: all end in time."""
    own, videos = passes(tmp_path), [Video(f"/x/{k}.mp4", str(k)) for k in range(3 * MAX_TRIES)]
    for _, segments in own.plan(videos):
        own._tries[segments[1 % len(segments)].video.video_id] += 1
        own.outcomes |= done(tmp_path, segments[0].video)
    assert own.count == len(videos) > MAX_TRIES
    assert all(outcome.error is None for outcome in own.outcomes.values())
    assert list(open_store(str(tmp_path)).list("errors/")) == []


def test_passes_that_end_no_video_end_the_run_and_blame_none(tmp_path: Path) -> None:
    own = passes(tmp_path)
    with pytest.raises(
        RunError, match=r"3 videos are left.*run the same command to continue"
    ) as failed:
        list(own.plan(VIDEOS))
    assert failed.value.exit_code == ExitCode.INTERNAL
    assert own.count == MAX_IDLE
    assert list(open_store(str(tmp_path)).list("errors/")) == []


def test_what_one_actor_has_left_is_shared_by_all_of_the_next_pass() -> None:
    names = [f"video-{k}" for k in range(4000)]
    left = [name for name in names if shard_of(name, 16, "run-0") == 3]
    assert {shard_of(name, 16, "run-1") for name in left} == set(range(16))


def test_a_dataflow_that_achieves_nothing_ends_the_run_and_blames_no_video(tmp_path: Path) -> None:
    own = passes(tmp_path)
    planned = own.plan(VIDEOS)
    next(planned)
    own._trouble = ImportError("at line 3\nno module x\n")
    with pytest.raises(RunError, match="no module x") as failed:
        next(planned)
    assert failed.value.exit_code == ExitCode.INTERNAL
    assert own.count == 1
    assert list(open_store(str(tmp_path)).list("errors/")) == []


def test_a_dataflow_that_fails_but_moves_on_gets_all_its_tries(tmp_path: Path) -> None:
    own = passes(tmp_path)
    for _, segments in own.plan(VIDEOS):
        own._trouble = OSError("a node was lost")
        own.outcomes |= done(tmp_path, segments[0].video)
    assert own.count == len(VIDEOS)
    assert all(outcome.error is None for outcome in own.outcomes.values())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RayActorError(), True),
        (RayActorError(actor_init_failed=True), False),
        (WorkerCrashedError(), True),
        (AssertionError(0), True),  # Ray Data's, over a worker that is dying
        (RayTaskError("f", "trace", WorkerCrashedError()), True),
        (RayTaskError("f", "trace", ImportError("no module x")), False),
        (StalledError("a node was lost"), True),
        (UserCodeException("f"), False),
        (ImportError("no module x"), False),
    ],
)
def test_losses_are_tried_again_and_errors_of_our_own_code_are_not(
    error: Exception, expected: bool
) -> None:
    assert may_succeed_again(error) is expected


def test_a_loss_before_any_video_has_ended_is_tried_again(tmp_path: Path) -> None:
    own = passes(tmp_path)
    for _, segments in own.plan(VIDEOS):
        if own.count == 1:
            own._trouble = WorkerCrashedError()
            continue
        for segment in segments:
            own.outcomes |= done(tmp_path, segment.video)
    assert own.count == 2
    assert all(outcome.error is None for outcome in own.outcomes.values())


class _Late:
    """An association shard that answers a call after a while, by the store of a test's Ray."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.finish, self.stats = (
            SimpleNamespace(remote=lambda kind=kind: asked.append(f"{name} {kind}") or kind)
            for kind in ("finish", "stats")
        )


def test_all_actors_are_asked_before_the_first_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    shards = [_Late(name, events) for name in "abc"]

    def wait(calls: list[str], num_returns: int, timeout: float) -> None:
        assert (len(calls), num_returns) == (3, 3)
        events.append("wait")

    def get(call: str, timeout: float) -> object:
        assert timeout == 0  # nothing is waited for a second time
        raise GetTimeoutError(call)

    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr("ray.kill", lambda shard: events.append("kill"))
    passes(tmp_path)._collect(shards, {})
    finish, stats = ([f"{name} {kind}" for name in "abc"] for kind in ("finish", "stats"))
    assert events == [*finish, *stats, "wait", *["kill"] * 3]


def test_nothing_to_do_is_no_pass(tmp_path: Path) -> None:
    assert list(passes(tmp_path).plan([])) == []


def test_rows_that_were_written_on_another_machine_are_missed(tmp_path: Path) -> None:
    own = passes(tmp_path)
    planned = own.plan(VIDEOS[:1])
    next(planned)
    own.outcomes |= done(tmp_path / "elsewhere", VIDEOS[0])
    with pytest.raises(RunError, match="not the same folder on all nodes"):
        next(planned)


def test_a_checkpoint_is_gone_on_from_with_the_file_that_was_listed(tmp_path: Path) -> None:
    """Another file in its place was decoded behind the frames of the first."""
    source = write_video(tmp_path / "v.mp4", 40, gop=8)
    (video,), _ = find_videos([str(source)])
    store = open_store(str(tmp_path / "out"))
    config = replace(fakes.CONFIG, min_box_area=0)
    resources = ResourceConfig(chunk_frames=8)
    own = Attempts(store, config, OutputConfig(), Tally(config, 0, None), resources)
    saving = Checkpointing("first", 16)
    session = VideoSession(
        video, 0, config, OutputConfig(), store, {}, tmp_path / "spool", checkpoints=saving
    )
    detector = Detector(config.detection, resources, fakes.NumberModel)
    for chunk in islice(frame_chunks(decode_segment, Segment(video), config, resources), 3):
        session.deliver(detector.detect(chunk))
    rest = own._remaining(video, 1, find_states(store)[video.video_id])
    assert (rest.start_frame, rest.version) == (16, video.version)
    assert list(frame_chunks(decode_segment, rest, config, resources))[-1].error is None
    write_video(source, 41, gop=8)
    error = list(frame_chunks(decode_segment, rest, config, resources))[-1].error
    assert error is not None
    assert error.reason is Reason.CHANGED_DURING_READ

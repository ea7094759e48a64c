"""Planning again, without Ray: what is yielded, and who is blamed in the end."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import fakes
import pytest
from made_videos import write_video

from pipelines.checkpoints import find_states
from pipelines.config import OutputConfig, ResourceConfig
from pipelines.decode import frame_chunks
from pipelines.detect import Detector
from pipelines.errors import ExitCode, Reason, RunError, VideoError
from pipelines.passes import MAX_PASSES, Passes
from pipelines.plan import find_videos
from pipelines.schema import Counts, Segment, Video, VideoOutcome
from pipelines.session import Checkpointing, VideoSession
from pipelines.sink import tracks_key, write_error
from pipelines.storage import open_store

VIDEOS = [Video(f"/archive/{name}.mp4", name) for name in "abc"]


def passes(tmp_path: Path) -> Passes:
    return Passes(open_store(str(tmp_path)), fakes.CONFIG, OutputConfig(), 0, None)


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


def test_a_large_archive_goes_through_in_waves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.passes.WAVE_VIDEOS", 2)
    own, planned, names = passes(tmp_path), [], set()
    for name, segments in own.plan(VIDEOS):
        names.add(name)
        planned.append([(segment.video.name, segment.attempt) for segment in segments])
        if segments[0].video.name != "b":
            own.outcomes |= done(tmp_path, segments[0].video)
    assert planned == [[("a", 0), ("b", 0)], [("c", 0)], [("b", 1)], [("b", 2)]]
    assert (own.count, len(names)) == (3, 4)


def test_a_wave_that_achieves_nothing_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.passes.WAVE_VIDEOS", 1)
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


def test_a_video_that_never_ends_fails(tmp_path: Path) -> None:
    own = passes(tmp_path)
    for _, segments in own.plan(VIDEOS):
        for segment in segments[1:]:
            own.outcomes |= done(tmp_path, segment.video)
    assert own.count == MAX_PASSES
    assert str(own.outcomes[VIDEOS[0].video_id].error) == "worker_died: not finished in 3 tries"
    assert list(open_store(str(tmp_path)).list("errors/")) != []


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
    assert own.count == MAX_PASSES
    assert all(outcome.error is None for outcome in own.outcomes.values())


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
    own = Passes(store, config, OutputConfig(), 0, None, resources)
    saving = Checkpointing("first", 16)
    session = VideoSession(
        video, 0, config, OutputConfig(), store, {}, tmp_path / "spool", checkpoints=saving
    )
    detector = Detector(config.detection, resources, "fakes:NumberModel")
    decoder = "pipelines.videos:decode_segment"
    for chunk in islice(frame_chunks(decoder, Segment(video), config, resources), 3):
        session.deliver(detector.detect(chunk))
    rest = own._rest(video, 1, find_states(store)[video.video_id])
    assert (rest.start_frame, rest.version) == (16, video.version)
    assert list(frame_chunks(decoder, rest, config, resources))[-1].error is None
    write_video(source, 41, gop=8)
    error = list(frame_chunks(decoder, rest, config, resources))[-1].error
    assert error is not None
    assert error.reason is Reason.CHANGED_DURING_READ

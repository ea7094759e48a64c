from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import Script

from jde_ray.models.structures import Detections
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.trackers.poi import PoiConfig
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.output.checkpoints import Checkpoint, find_states
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DetectionChunk, Segment, Verdict, Video, VideoInfo
from jde_ray.pipelines.tracking.stages.session import Checkpointing, VideoSession

VIDEO = Video("/archive/a.mp4", "a", camera="door")
INFO = VideoInfo(*fakes.SOURCE, 25.0)
OUTPUTS = OutputConfig(save_mot=True, save_embeddings=True, save_detections=True)


def chunks(
    tmp_path: Path, chunk_frames: int = 7, build_model: Any = fakes.ColourModel, **script: int
) -> list[DetectionChunk]:
    uri = Script(**script).write(tmp_path / "in", "a")
    detector = Detector(fakes.CONFIG.detection, ResourceConfig(), build_model)
    frames = fakes.decode(
        Segment(replace(VIDEO, uri=uri)), size=fakes.SIZE, resize="fast", chunk_frames=chunk_frames
    )
    return [replace(detector.detect(c), video_id=VIDEO.video_id) for c in frames]


def session(out: Path, config: TrackConfig = fakes.CONFIG, **settings: Any) -> VideoSession:
    metadata = {"model": "fake"}
    store = open_store(str(out))
    return VideoSession(VIDEO, 0, config, OUTPUTS, store, metadata, out / "spool", **settings)


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_any_order_gives_the_same_bytes(tmp_path: Path) -> None:
    ordered = chunks(tmp_path, frames=90)
    first = session(tmp_path / "first")
    assert [first.deliver(c) for c in ordered] == [Verdict.TAKEN] * len(ordered)
    expected = files(tmp_path / "first")
    assert len(expected) == 3  # nothing is left in the spool
    for seed in range(8):
        shuffled = ordered * (1 + seed % 2)
        random.Random(seed).shuffle(shuffled)
        other = session(tmp_path / str(seed), window=2)
        answers = [other.deliver(c) for c in shuffled]
        assert answers.count(Verdict.TAKEN) == len(ordered)
        assert set(answers) <= {Verdict.TAKEN, Verdict.DUPLICATE}
        assert files(tmp_path / str(seed)) == expected
    outcome = first.outcome
    assert outcome is not None
    assert outcome.counts.frames == 90
    assert outcome.counts.rows == pq.read_metadata(next(tmp_path.glob("first/tracks/*"))).num_rows
    assert outcome.counts.dropped["min_box_area"] > 0
    assert outcome.counts.detections >= outcome.counts.rows


def test_mode_published_leaves_out_wide_boxes_and_counts_them(tmp_path: Path) -> None:
    seen = {}
    for mode in ("default", "published"):
        tracking = replace(fakes.CONFIG.tracking, mode=mode, high_score=0.1, birth_score=0.1)
        config = replace(fakes.CONFIG, tracking=tracking, min_box_area=0.0)
        one = session(tmp_path / mode, config)
        for chunk in chunks(tmp_path, frames=40):
            for found in chunk.detections:
                found.tlbr[::2, 2] = found.tlbr[::2, 0] + 2 * (
                    found.tlbr[::2, 3] - found.tlbr[::2, 1]
                )
            one.deliver(chunk)
        table = pq.read_table(next(tmp_path.glob(f"{mode}/tracks/*.parquet")))
        x1, y1, x2, y2 = (table.column(name).to_numpy() for name in ("x1", "y1", "x2", "y2"))
        seen[mode] = (x2 - x1) / (y2 - y1), one.outcome.counts.dropped
    assert seen["default"][0].max() > 1.6
    assert "aspect" not in seen["default"][1]
    assert seen["published"][0].max() <= 1.6 + 1e-4
    assert seen["published"][1]["aspect"] > 0


@pytest.mark.parametrize("mode", ["default", "published", "poi"])
@pytest.mark.parametrize("group_rows", [16_384, 50])
def test_a_session_restored_again_and_again_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, group_rows: int
) -> None:
    """After every checkpoint a new session goes on; the last attempt's clutter is removed."""
    monkeypatch.setattr("jde_ray.pipelines.output.result_files.ROW_GROUP_ROWS", group_rows)
    tracking = PoiConfig() if mode == "poi" else TrackingConfig(mode=mode)  # type: ignore[arg-type]
    model = fakes.JudgingModel if mode == "poi" else fakes.ColourModel  # with qualities
    config = replace(fakes.CONFIG, tracking=tracking)
    parts = chunks(tmp_path, frames=90, start_us=1_714_555_800_250_001, build_model=model)
    first = session(tmp_path / "first", config)
    for part in parts:
        first.deliver(part)
    expected = files(tmp_path / "first")
    found = pq.read_schema(next(tmp_path.glob("first/detections/*")))
    assert ("qualities" in found.names) == (mode == "poi")
    table = pq.read_table(next(tmp_path.glob("first/tracks/*")))
    assert table.column("time").null_count == table.column("camera").null_count == 0
    out, store = tmp_path / "out", open_store(str(tmp_path / "out"))
    own, tokens = session(out, config, checkpoints=Checkpointing("0", 14)), []
    for part in parts:
        own.deliver(part)
        states = find_states(store).get(VIDEO.video_id, [])
        if own.outcome is None and states and states[0] not in tokens:
            tokens.append(states[0])
            own.close()
            own = session(out, config, checkpoints=Checkpointing(f"{len(tokens)}", 14))
            own.restore(Checkpoint.load(store.get(states[0])))
            assert own.next_chunk == part.chunk_index + 1
    assert len(tokens) >= 5
    assert files(out) == expected
    assert own.outcome is not None
    assert first.outcome is not None
    assert own.outcome.counts == first.outcome.counts


def test_a_checkpoint_of_other_settings_or_of_another_file_is_refused(tmp_path: Path) -> None:
    own = session(tmp_path / "out", checkpoints=Checkpointing("t", 7))
    own.deliver(chunks(tmp_path)[0])
    store = open_store(str(tmp_path / "out"))
    (key,) = find_states(store)[VIDEO.video_id]
    kept = Checkpoint.load(store.get(key))
    assert (kept.next_frame, kept.next_chunk, kept.chunk_frames) == (7, 1, 7)
    changed = session(tmp_path / "other", replace(fakes.CONFIG, min_box_area=1.0))
    with pytest.raises(ValueError, match="belongs to another run or file"):
        changed.restore(kept)
    replaced = session(tmp_path / "other")
    replaced.video = replace(VIDEO, version="2")
    with pytest.raises(ValueError, match="belongs to another run or file"):
        replaced.restore(kept)
    with pytest.raises(ValueError, match="checkpoint"):
        Checkpoint.load(store.get(key)[:-100])


def test_a_short_video_keeps_no_checkpoint(tmp_path: Path) -> None:
    own = session(tmp_path / "out", checkpoints=Checkpointing("t", 1000))
    for part in chunks(tmp_path, frames=90)[:-1]:
        own.deliver(part)
    assert not (tmp_path / "out/checkpoints").exists()


def test_metadata_is_that_of_the_video(tmp_path: Path) -> None:
    own = session(tmp_path / "out")
    for chunk in chunks(tmp_path, frames=10):
        own.deliver(chunk)
    found = pq.read_metadata(next(tmp_path.glob("out/tracks/*"))).metadata
    expected = {"width": "192", "height": "128", "num_frames": "10", "frames_per_second": "25"}
    expected |= {"num_detections": "40", "num_tracks": "4", "video_version": ""}
    expected["camera"] = "door"
    assert expected | {"model": "fake"} == {
        k.decode(): v.decode() for k, v in found.items() if k != b"ARROW:schema"
    }


def of_version(chunk: DetectionChunk, version: str) -> DetectionChunk:
    return replace(chunk, info=replace(chunk.info, version=version))


def test_the_version_is_that_of_the_file_which_was_read(tmp_path: Path) -> None:
    """Hours may lie between the listing of an archive and the reading of a video."""
    place = Checkpointing("0-1", 20)
    for version in ("", "2-2"):
        out = tmp_path / f"out{version}"
        one = VideoSession(
            replace(VIDEO, version="1-1"),
            *(0, fakes.CONFIG, OUTPUTS, open_store(str(out)), {}, out / "spool"),
            checkpoints=place,
        )
        parts = [of_version(part, version) for part in chunks(tmp_path, frames=40)]
        for part in parts[:-1]:
            one.deliver(part)
        store = open_store(str(out))
        ((state,),) = find_states(store).values()
        assert Checkpoint.load(store.get(state)).belongs["version"] == (version or "1-1")
        one.deliver(parts[-1])
        assert one.outcome is not None
        assert one.outcome.video.version == (version or "1-1")
        written = pq.read_schema(next(out.glob("tracks/*"))).metadata[b"video_version"].decode()
        assert written == (version or "1-1")


def test_frames_of_two_versions_never_mix(tmp_path: Path) -> None:
    """Ray decodes a video again whose decoder was lost; its file may be another one by then."""
    parts = chunks(tmp_path, frames=21)
    one = session(tmp_path / "out")
    one.deliver(of_version(parts[0], "1-1"))
    one.deliver(of_version(parts[0], "2-2"))  # delivered before: dropped
    one.deliver(of_version(parts[1], "2-2"))
    assert one.outcome is not None
    assert str(one.outcome.error) == (
        "changed_during_read: the file was replaced while the video was tracked (frame 7)"
    )
    assert not list(tmp_path.glob("out/tracks/*"))


def test_another_attempt_is_fenced(tmp_path: Path) -> None:
    first, *_ = chunks(tmp_path)
    assert session(tmp_path / "out").deliver(replace(first, attempt=1)) == Verdict.STALE


def test_an_error_chunk_ends_the_video_in_order(tmp_path: Path) -> None:
    """The first error by frame number counts, whichever arrives first."""
    parts = chunks(tmp_path, frames=40, nan_at=9, error_at=30)
    own = session(tmp_path / "out")
    for chunk in reversed(parts):
        own.deliver(chunk)
    record = json.loads(next(tmp_path.glob("out/errors/*")).read_text())
    assert (record["reason"], record["frame"]) == ("non_finite_output", 9)
    assert own.deliver(parts[-1]) in (Verdict.ENDED, Verdict.DUPLICATE)
    assert not list(tmp_path.glob("out/tracks/*"))
    assert not list(tmp_path.glob("out/spool/*"))


def test_what_is_wrong_with_a_file_is_one_line_and_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Small work runs in the user's process, whose terminal shows what is logged as an error."""
    first, *_ = chunks(tmp_path)
    error = VideoError(Reason.TRUNCATED, "the file has 3000 bytes", 0)
    error.__cause__ = OSError("of PyAV")
    own = session(tmp_path / "out")
    own.deliver(replace(first, error=error))
    assert own.outcome is not None
    assert own.outcome.error is error
    assert not caplog.records


def test_nan_never_reaches_the_tracker(tmp_path: Path) -> None:
    first, *_ = chunks(tmp_path)
    bad = [Detections(d.tlbr * np.nan, d.scores, d.embeddings) for d in first.detections]
    own = session(tmp_path / "out")
    own.deliver(replace(first, detections=bad))
    assert own.outcome is not None
    assert own.outcome.error is not None
    assert own.outcome.error.reason is Reason.NON_FINITE_OUTPUT


def test_a_bug_in_the_tracker_costs_one_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IndexError("no such track")

    monkeypatch.setattr("jde_ray.models.tracking.tracker.JDETracker.advance", broken)
    own = session(tmp_path / "out")
    own.deliver(chunks(tmp_path)[0])
    assert own.outcome is not None
    assert str(own.outcome.error) == "internal: IndexError: no such track (frame 0)"


def test_a_video_of_no_frames_is_an_error(tmp_path: Path) -> None:
    nothing = np.zeros(0)
    own = session(tmp_path / "out")
    empty = DetectionChunk(VIDEO.video_id, 0, 0, nothing.astype(int), nothing, INFO, True, [])
    assert own.deliver(empty) == Verdict.TAKEN
    assert own.outcome is not None
    assert own.outcome.error is not None
    assert own.outcome.error.reason is Reason.EMPTY


def test_frames_without_people_give_a_file_of_no_rows(tmp_path: Path) -> None:
    own = session(tmp_path / "out")
    found = [Detections.empty(fakes.DIM)] * 3
    index = np.arange(3)
    own.deliver(DetectionChunk(VIDEO.video_id, 0, 0, index, index / 25, INFO, True, found))
    assert pq.read_metadata(next(tmp_path.glob("out/tracks/*"))).num_rows == 0


def test_boxes_without_an_area_are_counted(tmp_path: Path) -> None:
    own = session(tmp_path / "out")
    flat = Detections(
        np.array([[5, 5, 5, 50]], np.float32), np.ones(1, np.float32), np.eye(1, fakes.DIM)
    )
    index = np.arange(1)
    own.deliver(DetectionChunk(VIDEO.video_id, 0, 0, index, index / 25, INFO, True, [flat]))
    assert own.outcome is not None
    assert own.outcome.counts.dropped == {"degenerate_box": 1}


def test_a_failed_write_is_not_the_videos_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    own = session(tmp_path / "out")
    monkeypatch.setattr("jde_ray.pipelines.storage.local.LocalStore.put_if_absent", full)
    *most, last = chunks(tmp_path)
    for chunk in most:
        own.deliver(chunk)
    with pytest.raises(OSError, match="No space"):
        own.deliver(last)
    assert own.outcome is None


def test_a_video_can_be_given_up_once(tmp_path: Path) -> None:
    own = session(tmp_path / "out")
    own.fail(VideoError(Reason.WORKER_DIED, "chunk 3"))
    own.fail(VideoError(Reason.INTERNAL, "later"))
    assert own.outcome is not None
    assert str(own.outcome.error) == "worker_died: chunk 3"
    assert own.deliver(chunks(tmp_path)[0]) == Verdict.ENDED

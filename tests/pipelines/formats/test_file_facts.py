"""What a file says of its video is what was written into it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from jde_ray.pipelines.formats.file_facts import (
    FileFacts,
    fact_of_detections,
    facts_of_refined,
    facts_of_video,
)
from jde_ray.pipelines.structures import Counts, Video, VideoInfo

VIDEO = Video("/archive/a.mp4", "a", version="7|8")


def stored(metadata: dict[str, str]) -> FileFacts:
    return FileFacts({key.encode(): value.encode() for key, value in metadata.items()})


def test_facts_are_read_as_they_were_written() -> None:
    counts = Counts()
    counts.frames, counts.detections, counts.tracks = 12, 34, 5
    facts = stored(facts_of_video(VIDEO, VideoInfo(64, 48, 30000 / 1001, 12), counts))
    assert facts.size == (64, 48)
    assert facts.has_frame_rate
    assert facts.frames_per_second == pytest.approx(30000 / 1001, rel=1e-9)
    assert (facts.num_frames, facts.num_detections, facts.num_tracks) == (12, 34, 5)
    assert facts.video_version == VIDEO.source_version
    assert (facts.camera, facts.start) == (None, None)
    assert stored(fact_of_detections(VIDEO)).video == VIDEO


def test_camera_and_start_are_facts_of_files_without_rows_too() -> None:
    start = datetime(2024, 5, 1, 9, 30, 0, 250_000, timezone(timedelta(hours=2)))
    known = replace(VIDEO, camera="G\u00fcnters Tor", start=start)
    metadata = facts_of_video(known, VideoInfo(64, 48, 25.0), Counts()) | fact_of_detections(known)
    assert metadata["start"] == "2024-05-01T07:30:00.250000+00:00"
    facts = stored(metadata)
    assert (facts.camera, facts.start) == (known.camera, start)
    assert facts.video is not None
    assert (facts.video.camera, facts.video.start) == (known.camera, start)
    assert facts.start is not None
    assert facts.start.tzinfo is UTC
    with pytest.raises(ValueError, match="tea"):
        _ = stored({"start": "tea"}).start


def test_what_a_file_of_a_former_version_lacks_has_a_default_or_is_missed() -> None:
    facts = FileFacts({})
    assert (facts.num_detections, facts.num_tracks, facts.video_version) == (0, None, "")
    assert facts.video is None
    assert not facts.has_frame_rate
    for name in ("num_frames", "size", "frames_per_second"):
        with pytest.raises(KeyError):
            getattr(facts, name)
    with pytest.raises(ValueError, match="many"):
        _ = stored({"num_frames": "many"}).num_frames


def test_refined_tracks_are_counted_anew_and_everything_else_is_kept() -> None:
    before = {b"model": b"small", b"num_tracks": b"9", b"ARROW:schema": b"..."}
    after = facts_of_refined(before, 4, {"smooth": True}, "a1")
    assert list(after) == ["model", "num_tracks", "refined", "refined_of"]
    assert stored(after).refined_of == "a1"
    assert stored({}).refined_of == ""
    assert (after["model"], after["num_tracks"]) == ("small", "4")
    assert json.loads(after["refined"]) == {"smooth": True}
    assert "num_tracks" not in facts_of_refined({}, 4, {}, "")

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
from made_videos import write_video

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.tracking.time_left import ExpectedFrames, Pace
from jde_ray.pipelines.video.chunks import decode_segment

VIDEOS = [Video(f"/v/{n}.mp4", str(n), num_bytes=100 * n) for n in (1, 2, 3)]


def test_opened_videos_count_by_their_header_and_others_by_size() -> None:
    expected = ExpectedFrames(VIDEOS, fakes.CONFIG)
    assert expected.left(0) is None
    expected.learn(VIDEOS[1].video_id, 400)
    assert expected.left(0) == 1200
    assert expected.left(150) == 1050
    expected.learn(VIDEOS[1].video_id, 9)  # of its next part
    expected.learn(VIDEOS[0].video_id, 100)
    expected.learn(VIDEOS[2].video_id, 500)
    assert expected.left(150) == 850
    assert expected.left(2000) == 0
    expected.continue_from(300)
    assert expected.left(150) == 550


def test_without_sizes_the_number_of_videos_counts_and_stride_and_limit_are_kept() -> None:
    blind = [replace(video, num_bytes=0) for video in VIDEOS]
    expected = ExpectedFrames(blind, replace(fakes.CONFIG, vid_stride=3, max_frames=50))
    expected.learn(blind[0].video_id, 100)
    assert expected.left(0) == 3 * 34
    expected.learn(blind[1].video_id, 1000)
    assert expected.left(0) == (34 + 50) * 3 // 2


def test_a_header_tells_the_frames_of_files_and_of_folders(tmp_path: Path) -> None:
    found = []
    for suffix in ("mp4", "mkv"):
        path = write_video(tmp_path / f"a.{suffix}", 30)
        video = Video(str(path), "a")
        chunk = next(frame_chunks(decode_segment, Segment(video), fakes.CONFIG, ResourceConfig()))
        found.append(chunk.info.num_frames)
    assert found == [30, 30]


def test_the_pace_is_not_told_before_it_has_settled() -> None:
    """Frames of several detectors arrive together: the first estimates were `0:00 left`."""
    pace = Pace()
    assert pace.seconds_for(100) is None
    pace.note(20.0, 16)  # the network was loaded for 20 s, which counts for nothing
    assert pace.seconds_for(100) is None
    pace.note(20.01, 32)
    assert pace.seconds_for(100) is None
    pace.note(24.0, 16 + 80)
    assert pace.seconds_for(100) == 5.0


def test_at_an_even_pace_the_time_left_falls_with_the_clock() -> None:
    expected, pace = ExpectedFrames(VIDEOS, fakes.CONFIG), Pace()
    for video in VIDEOS:
        expected.learn(video.video_id, 1000)
    left = []
    for second in range(100):
        frames = 30 * second + 16 * (second % 3)  # a chunk comes now and then
        pace.note(float(second), frames)
        remaining = expected.left(frames)
        assert remaining is not None
        left.append(pace.seconds_for(remaining))
    known = [seconds for seconds in left[15:] if seconds is not None]
    assert len(known) == 85
    assert all(abs(seconds - (85 - i)) < 10 for i, seconds in enumerate(known))
    assert all(later < sooner for sooner, later in zip(known[::6], known[6::6], strict=False))

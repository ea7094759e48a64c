from __future__ import annotations

import fakes

from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking.tally import Progress, Tally

VIDEOS = [Video(f"/archive/{name}.mp4", name) for name in "ab"]


def receipt(frames: int, *arrived: Video, promised: tuple[tuple[Video, int], ...] = ()) -> dict:
    return {
        "num_frames": frames,
        "arrived": [video.video_id for video in arrived],
        "promised": [(video.video_id, number) for video, number in promised],
        "decode_s": 0.5,
        "detect_s": 2.0,
    }


def test_receipts_add_up() -> None:
    seen: list[Progress] = []
    tally = Tally(fakes.CONFIG, 3, seen.append)
    tally.expect(VIDEOS)
    tally.add(receipt(16, promised=((VIDEOS[0], 20),)))
    tally.add(receipt(4, VIDEOS[0]))
    assert [(one.videos, one.videos_done, one.videos_skipped) for one in seen] == [
        (2, 0, 3),
        (2, 1, 3),
    ]
    assert [(one.frames, one.frames_left) for one in seen] == [(16, 24), (20, 20)]
    assert (tally.frames, tally.seconds) == (20, {"decode": 1.0, "detect": 4.0})


def test_drawing_is_reported_with_the_time_it_takes() -> None:
    seen: list[Progress] = []
    tally = Tally(fakes.CONFIG, 0, seen.append)
    tally.report_drawn(0, 3, 0.0)
    tally.report_drawn(1, 3, 10.0)
    assert [report.drawn for report in seen] == [(0, 3), (1, 3)]
    assert [report.seconds_left for report in seen] == [None, 20.0]
    Tally(fakes.CONFIG, 0, None).report_drawn(1, 3, 10.0)

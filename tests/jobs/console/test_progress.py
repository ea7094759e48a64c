"""What a user sees while a run works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jde_ray.jobs.console import progress as _display
from jde_ray.jobs.console.progress import Display, describe
from jde_ray.jobs.console.results import MAX_ERRORS, MAX_NAMES, show_summary
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.output.work import VideoRow
from jde_ray.pipelines.tracking.attempts import Progress


def progress(done: int, frames: int, seconds: float, skipped: int = 0) -> Progress:
    return Progress(4, done, skipped, frames, seconds)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (progress(0, 0, 0.0), "0/4 videos, 0 frames, 0.0 frames/s, ? left"),
        (progress(1, 300, 10.0), "1/4 videos, 300 frames, 30.0 frames/s, 0:30 left"),
        (progress(1, 9, 3600.0), "1/4 videos, 9 frames, 0.0 frames/s, 3:00:00 left"),
        (
            Progress(4, 1, 0, 300, 10.0, seconds_left=99.6),
            "1/4 videos, 300 frames, 30.0 frames/s, 1:40 left",
        ),
        (
            Progress(4, 4, 0, 300, 10.0, seconds_left=9.0),
            "4/4 videos, 300 frames, 30.0 frames/s, 0:00 left",
        ),
        (
            progress(4, 80, 8.0, 96),
            "4/4 videos (96 done before), 80 frames, 10.0 frames/s, 0:00 left",
        ),
    ],
)
def test_a_line_says_how_far_and_how_fast(report, line):
    assert describe(report) == line


def test_without_a_terminal_there_is_a_line_every_few_seconds(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(_display.time, "monotonic", lambda: now)
    with Display(Console(file=io.StringIO())) as display:
        for second in range(12):
            now = float(second)
            display(progress(1, second, second))
    counts = [int(line.split()[2]) for line in capsys.readouterr().err.splitlines()]
    assert counts == [0, 5, 10, 11]


def test_a_terminal_gets_a_bar(capsys):
    screen = io.StringIO()
    with Display(Console(file=screen, force_terminal=True, width=100)) as display:
        display(progress(2, 40, 2.0))
    assert "2/4 videos, 40 frames" in screen.getvalue()
    assert capsys.readouterr().err == ""


def test_a_run_without_work_shows_no_progress(capsys):
    with Display(Console(file=io.StringIO())):
        pass
    assert capsys.readouterr().err == ""


def shown(capsys, **values) -> tuple[str, str]:
    empty = dict.fromkeys(("frames", "damaged", "detections", "rows", "tracks"), 0)
    counts = {f"videos_{name}": 0 for name in ("done", "failed", "skipped")}
    given = {"out": "o", "dropped": {}, "seconds": {"wall": 2.0}, "frames_per_second": {}}
    show_summary(Summary(**given | empty | counts | values))
    return tuple(capsys.readouterr())


def test_ten_thousand_videos_of_earlier_calls_are_no_ten_thousand_lines(capsys):
    rows = [VideoRow(video_id=f"v-{i}", video="", status="skipped") for i in range(5000)]
    rows += [
        VideoRow(video_id=f"w-{i}", video="", status="failed before", error="x") for i in range(99)
    ]
    changed = [f"/v/{i}.mp4" for i in range(900)]
    counts = {"videos_skipped": 5000, "videos_failed_before": 99}
    out, err = shown(capsys, videos=rows, changed=changed, **counts)
    assert len(out.splitlines()) < 12
    assert err == ""
    assert "0 done, 0 failed, 5000 done before, 99 failed before" in out
    assert "900 done before have a changed file" in out.replace("\n", " ")
    assert "/v/4.mp4 and 895 more; --overwrite processes them again" in " ".join(out.split())


def test_many_failures_are_so_many_lines_and_a_number(capsys):
    error = {"video": "v", "reason": "decode", "detail": "x", "frame": None}
    rows = [VideoRow(video_id="a", video="a", status="skipped", error="tracks/a: bad")] * 9
    _, err = shown(capsys, videos_failed=1000, errors=[error] * 1000, videos=rows)
    lines = err.splitlines()
    assert len(lines) == MAX_ERRORS + 1 + MAX_NAMES + 1
    assert lines[MAX_ERRORS] == "jde: ... and 950 more failed, see summary.json"
    assert lines[-1] == "jde: ... and 4 more like that"


def test_what_is_left_out_says_what_it_is_and_a_stopped_run_counts_its_frames(capsys):
    dropped = {"min_box_area": 52, "max_detections": 3, "other": 1}
    out, _ = shown(
        capsys, dropped=dropped, frames=7, frames_seen=1602, exit_code=ExitCode.TERMINATED
    )
    assert "52 boxes of tracks, too small (--min-box-area)" in out
    assert "1602 frames in 2.0 s (801.0 frames/s)" in out
    assert "report.html" not in out

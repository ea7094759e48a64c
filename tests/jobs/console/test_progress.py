"""What a user sees while a run works."""

from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console

from jde_ray.jobs.console import progress as _display
from jde_ray.jobs.console.countdown import Countdown
from jde_ray.jobs.console.messages import ConsoleConfig
from jde_ray.jobs.console.progress import Display, describe, working
from jde_ray.pipelines.parallel import for_each
from jde_ray.pipelines.tracking.tally import Progress


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


def test_drawing_reports_itself():
    report = Progress(4, 4, 0, 300, 10.0, seconds_left=61.0, frames_left=0, drawn=(1, 3))
    assert describe(report) == "tracked; pictures of 1/3 videos, 1:01 left"


def test_without_a_pace_the_frames_that_are_left_say_nothing_of_the_time():
    assert describe(Progress(4, 1, 0, 300, 10.0, frames_left=900)).endswith("? left")


def test_the_time_left_falls_with_the_clock_and_over_small_changes():
    countdown, shown = Countdown(), []
    for second in range(100):
        jitter = 1.06 if second % 2 else 0.97  # the pace of a busy machine
        countdown.update((100 - second) * jitter, second)
        shown += [countdown.left(second), countdown.left(second + 0.5)]
    assert shown == sorted(shown, reverse=True)
    countdown.update(500.0, 100)  # a long video was opened: that is no jitter
    assert countdown.left(100) == 500.0
    assert countdown.left(700) == 0.0
    countdown.update(None, 701)
    assert countdown.left(701) is None


def test_a_step_is_told_if_it_lasts_and_a_short_one_is_not(capsys, monkeypatch):
    monkeypatch.setattr(_display, "PATIENCE_S", 3600.0)
    with Display(Console(file=io.StringIO())) as display:
        display.doing("looking for videos")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_display, "PATIENCE_S", 0.0)
    with Display(Console(file=io.StringIO())) as display:
        display.doing("starting Ray")
        display._view._timer.join()
    assert capsys.readouterr().err == "starting Ray\n"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_moves_with_frames_and_its_line_fits(width, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, legacy_windows=False)
    report = Progress(400, 12, 96, 123456, 122.0, seconds_left=4800.0, frames_left=123456)
    with Display(console) as display:
        display.doing("looking for videos in recordings/")
        display(report)
        task = display._view._bar.tasks[0]
        assert (task.completed, task.total) == (123456, 2 * 123456)
        display._view._bar.refresh()
    text = screen.getvalue()
    assert "looking for videos in recordings/" in text
    line = "12/400 videos (96 done before), 123456 frames, 1011.9 frames/s, 1:20:00 left"
    assert len(line) < 80
    assert (line if width >= 80 else " 12/400 videos, 1:20:00 left") in text
    assert "\u2026" not in text  # nothing is cut


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        ({"progress": "none"}, 0),
        ({"quiet": True}, 0),
        ({"progress": "lines"}, 1),
        ({"progress": "lines", "quiet": True}, 1),
        ({"progress": "json"}, 0),
    ],
)
def test_progress_can_be_switched_off_or_be_lines_on_a_terminal(config, lines, capsys):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with Display(console, ConsoleConfig(**config)) as display:
        display(progress(2, 40, 2.0))
    assert screen.getvalue() == ""
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_dumb_terminal_gets_lines(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    screen = io.StringIO()
    with Display(Console(file=screen, force_terminal=True, width=100)) as display:
        display(progress(2, 40, 2.0))
    assert screen.getvalue() == ""
    assert "2/4 videos" in capsys.readouterr().err


def worked(console: Console, **how) -> None:
    """Three items of work, of which the second one waits until the line was drawn."""
    drawn = threading.Event()

    def one(number: int) -> int:
        drawn.wait(0.3 if number == 1 else 0)
        return number

    with working("scoring", "sequences", console=console, **how):
        assert for_each(one, [0, 1, 2]) == [0, 1, 2]


def test_work_has_a_line_that_counts_if_it_lasts(monkeypatch):
    monkeypatch.setattr(_display, "PATIENCE_WITH_WORK_S", 0.0)
    screen = io.StringIO()
    worked(Console(file=screen, force_terminal=True, width=100, legacy_windows=False))
    assert "scoring: 1/3 sequences, 0:00 left" in screen.getvalue()
    monkeypatch.setattr(_display, "PATIENCE_WITH_WORK_S", 3600.0)
    screen = io.StringIO()
    worked(Console(file=screen, force_terminal=True, width=100))
    assert screen.getvalue().strip() == ""


def test_work_without_items_shows_its_seconds(monkeypatch):
    monkeypatch.setattr(_display, "PATIENCE_WITH_WORK_S", 0.0)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, legacy_windows=False)
    with working("writing small.onnx", console=console):
        time.sleep(1.3)
    assert "writing small.onnx 0:01" in screen.getvalue()


@pytest.mark.parametrize("how", ["piped", "quiet"])
def test_work_says_nothing_in_a_pipe_or_to_programs(how, monkeypatch):
    monkeypatch.setattr(_display, "PATIENCE_WITH_WORK_S", 0.0)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=how == "quiet", width=100)
    worked(console, is_quiet=how == "quiet")
    assert screen.getvalue() == ""

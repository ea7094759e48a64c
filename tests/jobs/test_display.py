"""What a user sees while a run works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs import _display
from jobs._display import Display, describe
from pipelines.passes import Progress


def progress(done: int, frames: int, seconds: float, skipped: int = 0) -> Progress:
    return Progress(4, done, skipped, frames, seconds)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (progress(0, 0, 0.0), "0/4 videos, 0 frames, 0.0 frames/s, ? left"),
        (progress(1, 300, 10.0), "1/4 videos, 300 frames, 30.0 frames/s, 0:30 left"),
        (progress(1, 9, 3600.0), "1/4 videos, 9 frames, 0.0 frames/s, 3:00:00 left"),
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

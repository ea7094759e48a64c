"""A run in a pseudo-terminal: what a person sees there, and no test that reads a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from conftest import ROOT, WORKER_PATH
from fakes import Script

RUN = """
import sys, fakes
from jobs.console.progress import Display
from jobs.console.results import show_summary
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.tracking.offline import track
with Display() as display:
    resources = ResourceConfig(chunk_frames=8)
    summary = track(
        [sys.argv[1]], sys.argv[2], fakes.CONFIG, components=fakes.COMPONENTS, resources=resources,
        progress=display,
    )
show_summary(summary)
"""


def in_terminal(command: list[str], columns: int) -> str:
    """What a program writes to a terminal that it has for all three streams."""
    ours, theirs = pty.openpty()
    kind = {"PYTHONPATH": WORKER_PATH, "TERM": "xterm", "COLUMNS": str(columns)}
    run = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | kind, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert run.wait() == 0, seen.decode()
    return seen.decode()


def shown(written: str) -> list[str]:
    """The lines on the screen in the end: of what is written, these move and erase."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.startswith("\x1b[") and part.endswith("A"):
            row -= int(part[2:-1] or 1)
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return [line for line in lines if line.strip()]


@pytest.mark.ray
@pytest.mark.slow
def test_progress_is_one_line_that_is_updated_in_place(tmp_path: Path) -> None:
    """Ray Data's own bars were a flood: 1,542 lines for a run of 100 s."""
    scripts = {f"v{i}": Script(60, seed=i, frame_s=0.02) for i in range(3)}
    source = fakes.archive(tmp_path / "in", **scripts)
    text = in_terminal([sys.executable, "-c", RUN, str(source), str(tmp_path / "out")], 100)
    assert "0/3 videos" in text or "1/3 videos" in text, text
    assert "MapBatches" not in text
    assert "Running" not in text
    lines = [
        line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\n") if line.strip()
    ]
    assert len(lines) < 12, text  # the table, the totals, and what the bar was
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


STEPS = """
import logging, time
from jde_ray.jobs.console.messages import Messages
from jde_ray.jobs.console.progress import Display
from jde_ray.pipelines.tracking.tally import Progress
with Messages(), Display() as display:
    display.doing("looking for videos in recordings/")
    logging.getLogger("jde_ray.pipelines.sources").warning("passed over: 70 pictures")
    for frames in range(0, 1001, 250):
        display(Progress(1, 0, 0, frames, 10.0, seconds_left=60.0, frames_left=1000 - frames))
        time.sleep(0.15)
print("the table")
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_messages_stand_above_the_bar_and_nothing_of_it_is_left(columns: int) -> None:
    seen = in_terminal([sys.executable, "-c", STEPS], columns)
    assert "looking for videos in recordings/" in seen
    screen = shown(seen)
    assert screen == ["passed over: 70 pictures", "the table"]
    assert "1000 frames" in seen
    assert "1:00 left" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is back

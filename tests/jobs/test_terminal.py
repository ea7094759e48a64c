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


@pytest.mark.ray
@pytest.mark.slow
def test_progress_is_one_line_that_is_updated_in_place(tmp_path: Path) -> None:
    """Ray Data's own bars were a flood: 1,542 lines for a run of 100 s."""
    scripts = {f"v{i}": Script(60, seed=i, frame_s=0.02) for i in range(3)}
    source = fakes.archive(tmp_path / "in", **scripts)
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(source), str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": WORKER_PATH, "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert run.wait() == 0
    text = seen.decode()
    assert "0/3 videos" in text or "1/3 videos" in text, text
    assert "MapBatches" not in text
    assert "Running" not in text
    lines = [
        line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\n") if line.strip()
    ]
    assert len(lines) < 12, text  # the table, the totals, and what the bar was
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back

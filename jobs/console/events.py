"""A run as lines of JSON on standard output (`--progress json`), for cron jobs and pipes.

Every line is one object with `event` and `time`. The keys are a promise: new ones may come, none
goes or changes its meaning. docs/terminal.md describes them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jde_ray.jobs.console.runner import explain
from jde_ray.pipelines.config import VERSION

if TYPE_CHECKING:
    from jde_ray.pipelines.output.summary import Summary
    from jde_ray.pipelines.output.work import VideoRow
    from jde_ray.pipelines.tracking.tally import Progress

SECONDS_BETWEEN_EVENTS = 5.0


class Events:
    """Prints `start`, `progress`, `video` and `end`; the last line of a run is always its `end`."""

    def __init__(self) -> None:
        self._last = -SECONDS_BETWEEN_EVENTS
        self._has_ended = False

    def started(self, out: str, videos: int) -> None:
        """Print that the videos are known: their number, done before or not, and OUT."""
        _put("start", version=VERSION, out=out, videos=videos)

    def progress(self, report: Progress) -> None:
        """Print a report, if the last one is some seconds old."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_EVENTS:
            return
        self._last = now
        rate = report.frames / report.seconds if report.seconds > 0 else 0.0
        left = report.seconds_left
        _put(
            "progress",
            videos=report.videos,
            videos_done=report.videos_done,
            videos_skipped=report.videos_skipped,
            frames=report.frames,
            frames_left=report.frames_left,
            frames_per_second=round(rate, 2),
            seconds=round(report.seconds, 3),
            seconds_left=None if left is None else round(left, 1),
            videos_drawn=0 if report.drawn is None else report.drawn[0],
        )

    def ended(self, summary: Summary) -> None:
        """Print a line per video that was done or failed in this call, and the totals."""
        for row in summary.videos:
            if row.status in ("done", "failed"):
                _put("video", **_values(row))
        self._has_ended = True
        names = ("done", "partial", "failed", "skipped", "failed_before", "drawn", "cropped")
        counts = {f"videos_{name}": getattr(summary, f"videos_{name}") for name in names}
        _put(
            "end",
            exit_code=int(summary.exit_code),
            error=None,
            out=summary.out,
            **counts,
            pictures_failed=len(summary.picture_errors),
            frames=summary.frames,
            detections=summary.detections,
            crops=summary.crops,
            tracks=summary.tracks,
            rows=summary.rows,
            seconds=round(summary.seconds.get("wall", 0.0), 3),
        )

    def failed(self, error: BaseException) -> None:
        """Print the end of a run that was refused or broke off; nothing after another end."""
        if self._has_ended:
            return
        text, code = explain(error)
        self._has_ended = True
        _put("end", exit_code=int(code), error=text)


def _values(row: VideoRow) -> dict[str, Any]:
    names = (
        "video_id",
        "video",
        "status",
        "frames",
        "length_s",
        "tracks",
        "rows",
        "crops",
        "error",
        "partial",
    )
    return {name: getattr(row, name) for name in names}


def _put(event: str, **values: Any) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    try:
        print(json.dumps({"event": event, "time": now, **values}, allow_nan=False), flush=True)
    except BrokenPipeError:  # the reader has gone, as `head` does; the run goes on without it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Shows a run to its user: progress while it works, then a table and the errors.

Progress goes to stderr, the table to stdout. On a terminal it is a bar; elsewhere plain lines,
one every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from jde_ray.pipelines.errors import ExitCode

if TYPE_CHECKING:
    from jde_ray.pipelines.output.summary import Summary
    from jde_ray.pipelines.output.work import VideoRow
    from jde_ray.pipelines.tracking.attempts import Progress

SECONDS_BETWEEN_LINES = 5.0
MAX_TABLE_ROWS = 50
MAX_NAMES = 5  # in a line

_CAUSES = {
    "max_detections": "{} detections over the limit per frame (--max-detections)",
    "degenerate_box": "{} detections without area",
    "min_box_area": "{} boxes of tracks, too small (--min-box-area)",
}


def describe(progress: Progress) -> str:
    """One line: videos, frames, frames/s and the time left."""
    rate = progress.frames / progress.seconds if progress.seconds > 0 else 0.0
    skipped = f" ({progress.videos_skipped} done before)" if progress.videos_skipped else ""
    return (
        f"{progress.videos_done}/{progress.videos} videos{skipped}, {progress.frames} frames, "
        f"{rate:.1f} frames/s, {_time_left(progress)} left"
    )


def _time_left(progress: Progress) -> str:
    left = progress.videos - progress.videos_done
    if not left:
        seconds = 0
    elif progress.seconds_left is not None:
        seconds = round(progress.seconds_left)
    elif progress.videos_done:  # no header states the length: estimate by videos done
        seconds = round(progress.seconds / progress.videos_done * left)
    else:
        return "?"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Display:
    """Shows progress; call it with every report of a run."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._last_line = -SECONDS_BETWEEN_LINES
        self._last: Progress | None = None
        self._is_last_printed = True

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"))
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting Ray", total=None)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._last is not None and not self._is_last_printed:
            self._line(self._last)

    def __call__(self, progress: Progress) -> None:
        """Draw the report; without a terminal, print a line if the last one is some seconds old."""
        self._last, self._is_last_printed = progress, False
        if self._bar is not None:
            text = describe(progress)
            self._bar.update(
                self._task, total=progress.videos, completed=progress.videos_done, description=text
            )
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._line(progress)

    def _line(self, progress: Progress) -> None:
        self._last_line, self._is_last_printed = time.monotonic(), True
        print(describe(progress), file=sys.stderr, flush=True)


def show_summary(summary: Summary, console: Console | None = None) -> None:
    """Print a table of the videos, one line per error, the totals and the result's place."""
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("video", box=None, pad_edge=False)
    for name in ("frames", "tracks", "rows"):
        table.add_column(name, justify="right")
    table.add_column("status")
    new = [row for row in summary.videos if row.status in ("done", "failed")]
    for row in new[:MAX_TABLE_ROWS]:
        table.add_row(escape(row.video_id), *_figures(row), _status(row))
    if new:
        console.print(table)
    if len(new) > MAX_TABLE_ROWS:
        console.print(f"... and {len(new) - MAX_TABLE_ROWS} more, see summary.json")
    for line in _troubles(summary):
        print(" ".join(line.split()), file=sys.stderr, flush=True)
    for line in _totals(summary):
        console.print(line, markup=False, highlight=False)


def _troubles(summary: Summary) -> list[str]:
    """One line per failure in this call and per unreadable result in OUT, up to a limit."""
    lines = []
    for error in summary.errors[:MAX_TABLE_ROWS]:
        where = "" if error.get("frame") is None else f" (frame {error['frame']})"
        lines.append(f"jde: {error['video']}: {error['reason']}: {error['detail']}{where}")
    if len(summary.errors) > MAX_TABLE_ROWS:
        more = len(summary.errors) - MAX_TABLE_ROWS
        lines.append(f"jde: ... and {more} more failed, see summary.json")
    unreadable = [
        f"jde: {row.error}" for row in summary.videos if row.status == "skipped" and row.error
    ]
    lines += unreadable[:MAX_NAMES]
    if len(unreadable) > MAX_NAMES:
        lines.append(f"jde: ... and {len(unreadable) - MAX_NAMES} more like that")
    return lines


def _figures(row: VideoRow) -> tuple[str, str, str]:
    if row.status != "done":
        return "", "", ""
    return str(row.frames), str(row.tracks), str(row.rows)


def _status(row: VideoRow) -> str:
    return f"failed ({row.error.partition(':')[0]})" if row.error else row.status


def _totals(summary: Summary) -> list[str]:
    wall = summary.seconds.get("wall", 0.0)
    was_stopped = summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
    frames = summary.frames_seen if was_stopped else summary.frames
    rate = frames / wall if wall > 0 else 0.0
    before = f"{summary.videos_skipped} done before"
    if summary.videos_failed_before:
        before += f", {summary.videos_failed_before} failed before"
    lines = [
        f"{summary.videos_done} done, {summary.videos_failed} failed, {before}; {frames} frames "
        f"in {wall:.1f} s ({rate:.1f} frames/s)"
    ]
    if summary.videos_drawn:
        lines.append(f"{summary.videos_drawn} videos drawn, in {summary.out}/videos")
    if summary.damaged:
        lines.append(f"{summary.damaged} frames were damaged and concealed by the decoder")
    if summary.dropped:
        causes = (_CAUSES.get(cause, f"{{}} {cause}") for cause in summary.dropped)
        texts = (text.format(n) for text, n in zip(causes, summary.dropped.values(), strict=True))
        lines.append(f"left out: {'; '.join(texts)}")
    if summary.changed:
        lines.append(
            f"{len(summary.changed)} done before have a changed file and keep their old tracks: "
            f"{_some(summary.changed)}; --overwrite processes them again"
        )
    if summary.videos_failed or summary.videos_failed_before:
        lines.append("the next run skips failed videos; --retry-errors tries them again")
    if was_stopped:
        return lines  # no report yet; the caller says what to do next
    return [*lines, f"written to {summary.out}; report.html there shows the run"]


def _some(names: Sequence[str]) -> str:
    """The first names, and the number of the rest."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more

"""Shows how a run gets on: a bar on a terminal, elsewhere a line every few seconds, or JSON.

The bar and the lines go to standard error, JSON to standard output. The first word comes before
torch and Ray are imported, which takes seconds.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as Bar
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from jde_ray.jobs.console.countdown import Countdown
from jde_ray.jobs.console.events import Events
from jde_ray.jobs.console.messages import ConsoleConfig, Messages
from jde_ray.pipelines.parallel import reporting

if TYPE_CHECKING:
    from jde_ray.pipelines.output.summary import Summary
    from jde_ray.pipelines.tracking.tally import Progress

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_RECORDS = 60.0  # in a log file, which is kept
PATIENCE_WITH_WORK_S = 2.0  # work that ends sooner shows no line
PATIENCE_S = 0.5  # a step that is over sooner, as one that is refused, is not worth a line
_LEAST_BAR, _MOST_BAR = 3, 40  # columns


def describe(progress: Progress, seconds_left: float | None = None) -> str:
    """One line: videos, frames, frames/s and the time left.

    Args:
        progress: The report.
        seconds_left: Time left to show; None: that of the report.
    """
    left = _time_left(progress) if seconds_left is None else length(seconds_left)
    if progress.drawn is not None:
        drawn, of = progress.drawn
        return f"tracked; pictures of {drawn}/{of} videos, {left} left"
    rate = progress.frames / progress.seconds if progress.seconds > 0 else 0.0
    skipped = f" ({progress.videos_skipped} done before)" if progress.videos_skipped else ""
    return (
        f"{progress.videos_done}/{progress.videos} videos{skipped}, {progress.frames} frames, "
        f"{rate:.1f} frames/s, {left} left"
    )


def _time_left(progress: Progress) -> str:
    seconds = estimate(progress)
    return "?" if seconds is None else length(seconds)


def estimate(progress: Progress) -> float | None:
    """Seconds left by a report; None if it cannot tell."""
    left = progress.videos - progress.videos_done
    if progress.drawn is None and not left:
        return 0.0
    if progress.seconds_left is not None:
        return progress.seconds_left
    if progress.drawn is None and progress.frames_left is None and progress.videos_done:
        return progress.seconds / progress.videos_done * left  # no header states the length
    return None


def length(seconds: float) -> str:
    """A length of time as M:SS or H:MM:SS.

    >>> length(99.6), length(3601)
    ('1:40', '1:00:01')
    """
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _own_stderr() -> Console:
    """A terminal's standard error of its own: while Ray starts, that of the process is closed."""
    if not sys.stderr.isatty():
        return Console(stderr=True)
    number, kind = os.dup(sys.stderr.fileno()), sys.stderr
    return Console(file=os.fdopen(number, "w", encoding=kind.encoding, errors=kind.errors))


class View(Protocol):
    """A way to show a run."""

    def doing(self, text: str) -> None:
        """Say which step begins."""

    def show(self, progress: Progress) -> None:
        """Show a report."""

    def close(self) -> None:
        """Show the last report, and leave the terminal as it was."""


class Display:
    """Shows a run's steps and progress; call it with every report.

    Args:
        console: Where a bar is drawn; None: standard error.
        config: Which way to show it.
        messages: The log file; None: none.
    """

    def __init__(
        self,
        console: Console | None = None,
        config: ConsoleConfig = ConsoleConfig(),
        messages: Messages | None = None,
    ) -> None:
        console = console or _own_stderr()
        self.events = Events() if config.progress == "json" else None
        self._messages = messages
        self._last_record = -SECONDS_BETWEEN_RECORDS
        self._countdown = Countdown()
        self._view: View | None = None
        if config.progress == "lines" or (config.progress == "auto" and not config.quiet):
            is_bar = console.is_terminal and not console.is_dumb_terminal
            use_bar = is_bar and config.progress == "auto"
            self._view = _BarView(console, self._countdown) if use_bar else _Lines(self._countdown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pause()
        if self.events is not None and error is not None:
            self.events.failed(error)

    def pause(self) -> None:
        """Leave the terminal to others, with the last report on it."""
        if self._view is not None:
            self._view.close()

    def doing(self, text: str) -> None:
        """Say which step begins, such as `starting Ray`."""
        if self._view is not None:
            self._view.doing(text)
        if self._messages is not None:
            self._messages.record(text)

    def started(self, out: str, videos: int) -> None:
        """Say what is tracked: the number of videos found, and the folder of the run."""
        if self.events is not None:
            self.events.started(out, videos)
        if self._messages is not None:
            self._messages.record(f"videos: {videos}, results: {out}")

    def __call__(self, progress: Progress) -> None:
        """Show the report; without a terminal, if the last one is some seconds old."""
        now = time.monotonic()
        self._countdown.update(estimate(progress), now)
        if self._view is not None:
            self._view.show(progress)
        if self.events is not None:
            self.events.progress(progress)
        if self._messages is not None and now - self._last_record >= SECONDS_BETWEEN_RECORDS:
            self._last_record = now
            self._messages.record(describe(progress, self._countdown.left(now)))

    def ended(self, summary: Summary) -> None:
        """Say how the run ended, in JSON; people get a table."""
        if self.events is not None:
            self.events.ended(summary)


@contextmanager
def working(
    what: str, units: str = "", *, is_quiet: bool = False, console: Console | None = None
) -> Iterator[None]:
    """Show a line on a terminal while the block works, if it takes more than a few seconds.

    It has the seconds since the start, or the items done by `for_each` and the time left.

    Args:
        what: What is done, such as `scoring`.
        units: What the items are, such as `sequences`.
        is_quiet: Show nothing.
        console: Where the line goes; None: standard error.
    """
    console = console or _own_stderr()
    if is_quiet or not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    bar = Bar(_FittedBar(console), _Line(console), console=console, transient=True)
    began = time.monotonic()
    task = bar.add_task(what, total=None, begun=began)

    def report(done: int, of: int) -> None:
        left = length((time.monotonic() - began) / done * (of - done)) if done else "?"
        text = f"{what}: {done}/{of} {units}, {left} left"
        # the time left stands in for that since the start
        bar.update(task, description=text, completed=done, total=of, begun=math.inf)

    timer = threading.Timer(PATIENCE_WITH_WORK_S, bar.start)
    timer.start()
    try:
        with reporting(report):
            yield
    finally:
        timer.cancel()
        timer.join()  # it may be starting the line
        bar.stop()


class _Lines:
    """A line per step that takes a while, and one per report every few seconds."""

    def __init__(self, countdown: Countdown) -> None:
        self._countdown = countdown
        self._timer: threading.Timer | None = None
        self._last_line = -SECONDS_BETWEEN_LINES
        self._last: Progress | None = None

    def doing(self, text: str) -> None:
        self._stop_timer()
        self._timer = threading.Timer(PATIENCE_S, _say, [text])
        self._timer.daemon = True
        self._timer.start()

    def show(self, progress: Progress) -> None:
        self._stop_timer()
        self._last = progress
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._line(progress)

    def close(self) -> None:
        self._stop_timer()
        if self._last is not None:
            self._line(self._last)

    def _line(self, progress: Progress) -> None:
        now = time.monotonic()
        self._last_line, self._last = now, None
        _say(describe(progress, self._countdown.left(now)))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _BarView:
    """One line that is redrawn in place, and gone at the end."""

    def __init__(self, console: Console, countdown: Countdown) -> None:
        columns = (_FittedBar(console), _Line(console))
        self._bar = Bar(*columns, console=console, transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=None, begun=time.monotonic())
        self._countdown = countdown
        self._bar.start()

    def doing(self, text: str) -> None:
        self._bar.update(self._task, description=text, begun=time.monotonic())
        self._bar.refresh()

    def show(self, progress: Progress) -> None:
        done, total = progress.videos_done, progress.videos
        if progress.drawn is not None:
            done, total = progress.drawn
        elif progress.frames_left is not None:
            done, total = progress.frames, progress.frames + progress.frames_left
        self._bar.update(
            self._task, completed=done, total=total, report=progress, countdown=self._countdown
        )

    def close(self) -> None:
        self._bar.stop()


class _Line(ProgressColumn):
    """The text beside the bar: a step with its seconds, or a report with the time left now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        super().__init__(table_column=Column(no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        """Text of this moment, the shorter one on a narrow terminal."""
        return Text(_line(task, self._console.width - _LEAST_BAR - 1))


class _FittedBar(BarColumn):
    """A bar in the room that the text leaves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        super().__init__()

    def render(self, task: Task) -> ProgressBar:
        """Bar of this moment."""
        room = self._console.width - len(_line(task, self._console.width - _LEAST_BAR - 1)) - 1
        self.bar_width = max(_LEAST_BAR, min(_MOST_BAR, room))
        return super().render(task)


def _line(task: Task, room: int) -> str:
    now, report = time.monotonic(), task.fields.get("report")
    if report is None:
        waited = now - task.fields["begun"]
        return f"{task.description} {length(waited)}" if waited >= 1 else task.description
    left = task.fields["countdown"].left(now)
    text = describe(report, left)
    if len(text) <= room:
        return text
    shown = "?" if left is None else length(left)
    return f"{report.videos_done}/{report.videos} videos, {shown} left"

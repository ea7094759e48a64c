"""The time left of a run, between its reports."""

from __future__ import annotations

_NEWS = 1.5  # an estimate longer by more is no jitter: a long video was opened
_DELAY = 0.5  # seconds that the end may move away per second, so that the time left falls


class Countdown:
    """The time left, falling with the clock between reports and over small changes of the pace."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._updated = 0.0

    def update(self, seconds_left: float | None, now: float) -> None:
        """Take a new estimate, made at the time `now` in seconds."""
        before = self.left(now)
        if seconds_left is None:
            self._end = None
        elif self._end is None or before is None or seconds_left > before * _NEWS + 1:
            self._end = now + seconds_left
        else:
            latest = self._end + (now - self._updated) * _DELAY
            self._end = min(now + seconds_left, latest)
        self._updated = now

    def left(self, now: float) -> float | None:
        """Seconds left at the time `now`; None if they are not known."""
        return None if self._end is None else max(0.0, self._end - now)

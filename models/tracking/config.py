"""Settings of the association."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Settings of `JDETracker`; the defaults are those that track best on the measured videos.

    Attributes:
        mode: `default`, or `published` for the original's behaviour row for row.
        track_buffer: Frames at 30 frames a second that a lost track is kept (scaled by fps / 30).
        birth_score: A detection starts a track from this score on.
        appearance_limit: Largest cost of the appearance stage.

    Raises:
        ValueError: If a value is out of range, naming it and what is accepted.
    """

    mode: Literal["default", "published"] = "default"
    track_buffer: int = 30
    birth_score: float = 0.5
    appearance_limit: float = 0.7

    def __post_init__(self) -> None:
        if self.mode not in ("default", "published"):
            raise ValueError(f"mode: got {self.mode!r}, accepted is default | published")
        _check_range("track-buffer", self.track_buffer, 0, 1_000_000)
        _check_range("birth-score", self.birth_score, 0.0, 1.0)
        _check_range("appearance-limit", self.appearance_limit, 0.0, 2.0)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: got {value}, accepted is {low} to {high}")

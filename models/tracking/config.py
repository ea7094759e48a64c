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

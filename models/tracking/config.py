"""Settings of our own association (`jde`), and settings that SORT and DeepSORT share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Literal

BIRTH_MARGIN = 0.1  # a track needs a higher score to start than to continue
_BUFFER = {"default": 60, "published": 30}
_SHARED = (
    "association",
    "mode",
    "track_buffer",
    "high_score",
    "birth_score",
)  # settings that mode `published` has too


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Settings of our own association; the defaults track best on the measured videos.

    Overlap limits are costs, 1 - IoU: the larger the limit, the less overlap a match needs.

    Attributes:
        association: Name of the association; the others are in `models.tracking.registry`.
        mode: `default`, or `published` for the original's behaviour row for row, which uses only
            `track_buffer`, `high_score` and `birth_score`.
        track_buffer: Frames that a lost track is kept at 30 frames/s (scaled by fps / 30);
            None is 60, or the original's 30 in `published`.
        high_score: The flag `--conf`. Detections below are weak: only the last stage uses them, to
            extend tracked tracks. `published` ignores them.
        weak_share: Lowest score of weak detections, as a share of `high_score`.
        blind_low_score: Lowest score of weak detections without embeddings.
        birth_score: Lowest score at which a detection starts a track; None is .1 above `high_score`
            (as in ByteTrack), or `high_score` itself in `published`.
        sure_overlap: A tracked track and a detection whose IoU is larger, and which look alike, are
            matched before all others; 1 turns this stage off. It needs embeddings.
        appearance_limit: Largest cost of a match by appearance: embedding distance and some motion.
            None learns it from the distances of different people in the video, with the mean of all
            embeddings subtracted (`models.tracking.calibration`).
        motion_share: Share of the squared Mahalanobis distance in that cost.
        overlap_limit: Largest cost of a match by overlap, for tracks seen in the last frame.
        lost_overlap_limit: The same for lost tracks; 0 matches them by appearance only.
        lost_growth: Boxes of lost tracks and their candidates grow on every side by this share of
            their size for each 1/30 s of a time step after the first 1/30 s, up to .6: at low frame
            rates people move further than predicted. With embeddings only pairs that look alike are
            matched so, tracks that were seen in the last frame included, after all other stages.
        low_overlap_limit: Overlap limit for tracks seen in the last frame and weak detections; 0
            turns this stage off.
        blind_low_overlap_limit: The same for detections without embeddings; lost tracks too.
        tentative_overlap_limit: Overlap limit for tentative tracks.
        birth_overlap: A detection whose IoU with a tracked box is larger starts no track.
        embedding_momentum: Largest share of the old embedding in a track's smoothed one; the first
            sightings count alike.
        min_hits: Detections a track needs before it is reported (tracks of the first frame need 1).

    Raises:
        ValueError: If a value is out of range; names it and the expected range.
    """

    association: Literal["jde"] = "jde"
    mode: Literal["default", "published"] = "default"
    track_buffer: int | None = None
    high_score: float = 0.5
    weak_share: float = 0.6
    blind_low_score: float = 0.15
    birth_score: float | None = None
    sure_overlap: float = 0.5
    appearance_limit: float | None = None
    motion_share: float = 0.01
    overlap_limit: float = 0.7
    lost_overlap_limit: float = 0.7
    lost_growth: float = 0.1
    low_overlap_limit: float = 0.3
    blind_low_overlap_limit: float = 0.5
    tentative_overlap_limit: float = 0.7
    birth_overlap: float = 0.4
    embedding_momentum: float = 0.95
    min_hits: int = 2

    def __post_init__(self) -> None:
        if self.mode not in _BUFFER:
            raise ValueError(f"mode: got {self.mode!r}, expected default | published")
        if self.track_buffer is not None:
            check_range("track_buffer", self.track_buffer, 0, 1_000_000)
        check_range("conf", self.high_score, 0.0, 1.0)  # named after the flag that sets it
        check_range("birth_score", self.first_score, 0.0, 1.0)
        if self.appearance_limit is not None:
            check_range("appearance_limit", self.appearance_limit, 0.0, 3.0)
        check_range("min_hits", self.min_hits, 1, 100)
        for share in fields(self):
            if share.type == "float":
                check_range(share.name, getattr(self, share.name), 0.0, 1.0)
        if self.mode == "published":
            for setting in fields(self):
                value = getattr(self, setting.name)
                if setting.name not in _SHARED and value != setting.default:
                    raise ValueError(
                        f"{setting.name}: got {value}, expected the original's in mode published"
                    )

    @property
    def first_score(self) -> float:
        """Lowest score at which a detection starts a track."""
        margin = BIRTH_MARGIN if self.mode == "default" else 0.0
        return birth_threshold(self.birth_score, self.high_score, margin)

    @property
    def least_score(self) -> float:
        """Score below which detections change nothing; a detector need not return them."""
        if self.mode == "published" or self.low_overlap_limit == 0:
            return self.high_score
        return round(self.weak_share * self.high_score, 6)

    @property
    def least_blind_score(self) -> float:
        """`least_score` of detections without embeddings."""
        if self.mode == "published" or self.blind_low_overlap_limit == 0:
            return self.high_score
        return min(self.blind_low_score, self.high_score)

    def max_lost_frames(self, frames_per_second: float) -> int:
        """Number of frames that a lost track is kept at this rate."""
        buffer = _BUFFER[self.mode] if self.track_buffer is None else self.track_buffer
        return frames_at_rate(buffer, frames_per_second)


@dataclass(frozen=True, kw_only=True)
class OneThresholdConfig:
    """Settings that SORT and DeepSORT share: one score threshold, no weak detections.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a track is kept without a match.
        high_score: Detections below this score are ignored.
        min_hits: Detections a track needs before it is reported.

    Raises:
        ValueError: If a value is out of range.
    """

    association: str
    track_buffer: int
    high_score: float
    min_hits: int

    def __post_init__(self) -> None:
        check_range("track_buffer", self.track_buffer, 0, 1_000_000)
        check_range("conf", self.high_score, 0.0, 1.0)

    @property
    def least_score(self) -> float:
        """Score below which detections change nothing."""
        return self.high_score

    def max_lost_frames(self, frames_per_second: float) -> int:
        """Frames that a lost track is kept; the rate does not matter."""
        del frames_per_second
        return self.track_buffer


def birth_threshold(
    birth_score: float | None, high_score: float, margin: float = BIRTH_MARGIN
) -> float:
    """Lowest score at which a detection starts a track: `birth_score`, or a margin above `--conf`.

    >>> birth_threshold(None, 0.5), birth_threshold(0.3, 0.5)
    (0.6, 0.3)
    """
    return min(1.0, round(high_score + margin, 6)) if birth_score is None else birth_score


def frames_at_rate(buffer: int, frames_per_second: float) -> int:
    """Frames of a video that last as long as `buffer` frames at 30 frames a second."""
    return int(frames_per_second / 30 * buffer)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside its limits, and one that is no number.

    Args:
        name: Name of the setting.
        value: Its value, of any type.
        low: Least value.
        high: Largest value; where both limits are whole numbers, values must be, too.

    Raises:
        ValueError: If the value cannot be; names the setting, the value and the range.
    """
    is_whole = isinstance(low, int) and isinstance(high, int)
    if isinstance(value, bool) or not isinstance(value, Integral if is_whole else Real):
        kind = "a whole number" if is_whole else "a number"
        raise ValueError(f"{name}: got {value!r}, expected {kind}, {low} to {high}")
    if not low <= value <= high:
        raise ValueError(f"{name}: got {value}, expected {low} to {high}")

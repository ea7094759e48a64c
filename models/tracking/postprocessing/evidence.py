"""What speaks for two pieces of tracks being of one person: appearance, motion, and time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.appearance import AppearanceEvidence
from jde_ray.models.tracking.postprocessing.cutting import Pieces
from jde_ray.models.tracking.postprocessing.glimpses import distance, unit
from jde_ray.models.tracking.postprocessing.motion import MotionEvidence, in_heights
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

_MOTION_S = 2.0  # in gaps of this many seconds a likely place counts 1/e
_ODD_PLACE_S = 10.0  # ... and an unlikely one
_REACH, _SPEED = 1.0, 3.0  # heights, and heights per second, that somebody may move in a gap
_LEAST_MOTION = -8.0  # boxes of half-hidden people jump: motion alone rules nothing out


@dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """How readily pieces are cut and joined, in natural logarithms of odds.

    Attributes:
        max_gap_s: Longest gap in seconds that is bridged.
        change: Evidence for two people above which a track is cut within.
        doubt: Odds against two pieces being one person before anything is known of them.
        absence: How much the odds sink for longer gaps: times log(1 + seconds).
        tracker: Odds for two pieces that the tracker joined.

    Raises:
        ValueError: If a value is out of range.
    """

    max_gap_s: float = 1e6
    change: float = 2.0
    doubt: float = 3.0
    absence: float = 1.5
    tracker: float = 6.0

    def __post_init__(self) -> None:
        if not 0 < self.max_gap_s <= 1e6:
            raise ValueError(f"relink: got gap {self.max_gap_s} s, expected above 0 to 1000000")
        for name in ("change", "doubt", "absence", "tracker"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"relink: got {name} {getattr(self, name)}, expected 0 to 100")


@dataclass(frozen=True)
class Looks:
    """Means of the embeddings of the pieces, and what their distances say.

    Attributes:
        evidence: Calibrated on this video.
        head: `(p, D)` unit means of the first glimpses of each piece.
        tail: `(p, D)` of the last ones.
        sums: `(p, D)` weighted sums over each piece.
    """

    evidence: AppearanceEvidence
    head: FloatArray
    tail: FloatArray
    sums: FloatArray


class Evidence:
    """Log-likelihood ratios between pieces, which are meant by their indices.

    Args:
        tracks: Tracks of one video.
        pieces: Their pieces.
        motion: How people move in this video.
        settings: How readily to join.
        frames_per_second: Rate of the video.
        looks: Appearance of the pieces; None if there are no embeddings.
    """

    def __init__(
        self,
        tracks: Trajectories,
        pieces: Pieces,
        motion: MotionEvidence,
        settings: LinkSettings,
        frames_per_second: float,
        looks: Looks | None,
    ) -> None:
        self._tracks, self._motion, self._settings = tracks, motion, settings
        self._first_row, self._last_row = pieces.rows[:, 0], pieces.rows[:, 1] - 1
        self.continues = pieces.continues
        self.first: IntArray = tracks.frame[self._first_row]
        self.last: IntArray = tracks.frame[self._last_row]
        self.rate, self.looks = frames_per_second, looks

    def __len__(self) -> int:
        return len(self.first)

    def contact(self, before: IntArray, after: IntArray) -> FloatArray:
        """`(k,)` evidence without appearance that the one piece is followed by the other.

        Minus infinity where that is impossible.
        """
        settings, gap = self._settings, self._seconds(before, after)
        last, first = self._last_row[before], self._first_row[after]
        possible = (gap > 0) & (gap <= settings.max_gap_s)
        possible &= in_heights(self._tracks, last, first) <= _REACH + _SPEED * gap
        moved = np.maximum(self._motion.ratio(last, first), _LEAST_MOTION)
        # people come and go in the same places, so a likely place says little after a while; an
        # unlikely one says something for longer
        moved = moved * np.exp(-gap / np.where(moved > 0, _MOTION_S, _ODD_PLACE_S))
        against = settings.doubt + settings.absence * np.log1p(np.maximum(gap, 0))
        bridged = self.continues[after] & (after == before + 1)
        # a tracker that saw appearances knew more than motion says after a longer gap
        against = np.where(bridged & (self.looks is None), 0.0, against)
        odds = moved - against + settings.tracker * bridged
        result: FloatArray = np.where(possible, odds, -np.inf)
        return result

    def appearance(
        self, before: IntArray, after: IntArray, sums: tuple[FloatArray, FloatArray] | None = None
    ) -> FloatArray:
        """`(k,)` evidence of the embeddings; 0 if there are none.

        Args:
            before: Pieces that end at a gap.
            after: Pieces that begin after it.
            sums: `(k, D)` sums of all that is known of the people on both sides; None for the two
                pieces alone.
        """
        if self.looks is None:
            return np.zeros(len(before))
        one, two = sums or (self.looks.sums[before], self.looks.sums[after])
        near = distance(self.looks.tail[before], self.looks.head[after])
        whole = distance(unit(one), unit(two))
        return self.looks.evidence.ratio(near, whole, self._seconds(before, after))

    def _seconds(self, before: IntArray, after: IntArray) -> FloatArray:
        gap: FloatArray = (self.first[after] - self.last[before]) / self.rate
        return gap

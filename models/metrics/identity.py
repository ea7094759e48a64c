"""Identity scores (Ristani et al., 2016), by motmetrics on our own overlaps.

Each person is assigned at most one track for the whole sequence, so that person and track share as
many boxes as possible. That number is unique, so motmetrics and TrackEval agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import motmetrics
import numpy as np

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.rows import BoxRows, by_frame

IOU_THRESHOLD = 0.5
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class IdentityCounts:
    """Counts that IDF1 is computed from; sequences add up with `+`.

    Ratios are 0 where nothing was tracked and NaN where there is no truth.

    Attributes:
        true_positives: Boxes of people that their assigned track found.
        false_negatives: Boxes of people that their assigned track did not find.
        false_positives: Boxes of tracks that are not on their assigned person.
    """

    true_positives: int = 0
    false_negatives: int = 0
    false_positives: int = 0

    def __add__(self, other: IdentityCounts) -> IdentityCounts:
        return IdentityCounts(
            self.true_positives + other.true_positives,
            self.false_negatives + other.false_negatives,
            self.false_positives + other.false_positives,
        )

    @property
    def idf1(self) -> float:
        """Harmonic mean of `idp` and `idr`."""
        return self._ratio(2.0, self.false_negatives + self.false_positives)

    @property
    def idp(self) -> float:
        """Share of the tracks' boxes that are on their assigned person."""
        return self._ratio(1.0, self.false_positives)

    @property
    def idr(self) -> float:
        """Share of the people's boxes that their assigned track found."""
        return self._ratio(1.0, self.false_negatives)

    def _ratio(self, weight: float, wrong: int) -> float:
        if not self.true_positives + self.false_negatives:
            return float("nan")
        return weight * self.true_positives / max(1.0, weight * self.true_positives + wrong)


def identity_counts(truth: BoxRows, tracks: BoxRows) -> IdentityCounts:
    """Compare the tracks of a sequence with its truth.

    Args:
        truth: People to be found; an id has at most one box per frame.
        tracks: People found, without those on distractors; an id has at most one box per frame.
    """
    if not len(truth) or not len(tracks):
        return IdentityCounts(0, len(truth), len(tracks))
    accumulator = motmetrics.MOTAccumulator(auto_id=False)
    for frame, (i, j) in by_frame(truth, tracks):
        distance = 1.0 - iou_matrix(truth.tlbr[i], tracks.tlbr[j])
        distance[distance > 1 - IOU_THRESHOLD + _EPSILON] = np.nan
        accumulator.update(truth.track_id[i], tracks.track_id[j], distance, frameid=frame)
    host = motmetrics.metrics.create()
    table = host.compute(accumulator, metrics=["idtp", "idfn", "idfp"], name="")
    return IdentityCounts(*(int(table.iloc[0][name]) for name in ("idtp", "idfn", "idfp")))

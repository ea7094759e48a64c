"""CLEAR MOT (Bernardin and Stiefelhagen, 2008), matched and counted as TrackEval does.

TrackEval is MOTChallenge's official kit; these figures equal its figures to the digit.
py-motmetrics agrees wherever a person has one candidate. Where several boxes compete it differs by
a few, since it keeps a pair of earlier frames even over a gap, at the expense of other pairs.
Its MOTP is a mean distance (lower is better), TrackEval's a mean IoU; its mostly tracked starts at
80 %, TrackEval's above 80 %; it counts fragmentations up to the end of a person's truth, TrackEval
counts every new beginning but the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.matching import IOU_THRESHOLD
from jde_ray.models.metrics.rows import BoxRows, by_frame
from jde_ray.models.structures import FloatArray, IntArray

MOSTLY_TRACKED, MOSTLY_LOST = 0.8, 0.2  # above and below these shares of a person's boxes
_EPSILON = float(np.finfo(float).eps)
_KEEP = 1000.0  # reward for keeping the track of the last frame; above any sum of IoU in a frame


@dataclass(frozen=True)
class ClearCounts:
    """Counts that the CLEAR figures are computed from; sequences add up with `+`.

    Ratios are 0 where nothing was tracked and NaN where there is no truth.

    Attributes:
        num_matches: Boxes of people that a track found (IoU at least .5).
        num_misses: Boxes of people that no track found (FN).
        num_false_positives: Boxes of tracks that match no person (FP).
        num_switches: Matches of a person to a track other than the last one (IDs).
        num_fragmentations: Number of times a person is found again after a gap (Frag).
        mostly_tracked: People found in more than 80 % of their boxes (MT).
        partly_tracked: People found in 20 to 80 % of their boxes (PT).
        mostly_lost: People found in less than 20 % of their boxes (ML).
        overlap: Sum of IoU over the matches.
    """

    num_matches: int = 0
    num_misses: int = 0
    num_false_positives: int = 0
    num_switches: int = 0
    num_fragmentations: int = 0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    overlap: float = 0.0

    def __add__(self, other: ClearCounts) -> ClearCounts:
        return ClearCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def num_boxes(self) -> int:
        """Boxes of people."""
        return self.num_matches + self.num_misses

    @property
    def num_ids(self) -> int:
        """People."""
        return self.mostly_tracked + self.partly_tracked + self.mostly_lost

    @property
    def mota(self) -> float:
        """1 - (FN + FP + IDs) / boxes; may be negative."""
        wrong = self.num_misses + self.num_false_positives + self.num_switches
        return 1 - wrong / self.num_boxes if self.num_boxes else float("nan")

    @property
    def motp(self) -> float:
        """Mean IoU of the matches, in [0, 1]: larger is better."""
        return self._of_truth(self.overlap / max(1, self.num_matches))

    @property
    def precision(self) -> float:
        """Share of the tracks' boxes that match a person."""
        return self._of_truth(
            self.num_matches / max(1, self.num_matches + self.num_false_positives)
        )

    @property
    def recall(self) -> float:
        """Share of the people's boxes that were found."""
        return self._of_truth(self.num_matches / max(1, self.num_boxes))

    def _of_truth(self, ratio: float) -> float:
        return ratio if self.num_boxes else float("nan")


@dataclass(frozen=True)
class FrameMatches:
    """Matches of one frame.

    Attributes:
        frame: Number of the frame.
        people: `(k,)` rows of the truth.
        tracks: `(k,)` rows of the tracks that found them.
        overlap: `(k,)` their IoU.
        switched: `(k,)` bool, whether the person had another track when it was matched last (IDs).
    """

    frame: int
    people: IntArray
    tracks: IntArray
    overlap: FloatArray
    switched: NDArray[np.bool_]


def clear_matches(truth: BoxRows, tracks: BoxRows) -> Iterator[FrameMatches]:
    """Matches that CLEAR counts, frame by frame; frames without truth or tracks are skipped.

    Args:
        truth: People to be found; an id has at most one box per frame.
        tracks: People found, without those on distractors; an id has at most one box per frame.
    """
    people, person = np.unique(truth.track_id, return_inverse=True)
    known_track = np.unique(tracks.track_id, return_inverse=True)[1]
    state = _People(len(people))
    for frame, (i, j) in by_frame(truth, tracks):
        if not len(i) or not len(j):
            continue  # like TrackEval, keep the state in a frame without truth or without tracks
        iou = iou_matrix(truth.tlbr[i], tracks.tlbr[j])
        rows, columns = state.match(iou, person[i], known_track[j])
        switched = state.take(person[i][rows], known_track[j][columns])
        yield FrameMatches(frame, i[rows], j[columns], iou[rows, columns], switched)


def clear_counts(truth: BoxRows, tracks: BoxRows) -> ClearCounts:
    """Compare the tracks of a sequence with its truth, frame by frame.

    Args:
        truth: People to be found; an id has at most one box per frame.
        tracks: People found, without those on distractors; an id has at most one box per frame.
    """
    people, person = np.unique(truth.track_id, return_inverse=True)
    boxes = np.bincount(person, minlength=len(people))
    matched, beginnings = np.zeros_like(boxes), np.zeros_like(boxes)
    num_switches, overlap = 0, 0.0
    found_before = np.zeros(len(people), bool)
    for one in clear_matches(truth, tracks):
        here = np.zeros(len(people), bool)
        here[person[one.people]] = True
        matched += here
        beginnings += here & ~found_before
        found_before = here
        num_switches += int(one.switched.sum())
        overlap += float(one.overlap.sum())
    num_matches = int(matched.sum())
    share = matched / np.maximum(1, boxes)
    mostly, at_all = int((share > MOSTLY_TRACKED).sum()), int((share >= MOSTLY_LOST).sum())
    return ClearCounts(
        num_matches=num_matches,
        num_misses=len(truth) - num_matches,
        num_false_positives=len(tracks) - num_matches,
        num_switches=num_switches,
        num_fragmentations=int(np.maximum(beginnings - 1, 0).sum()),
        mostly_tracked=mostly,
        partly_tracked=at_all - mostly,
        mostly_lost=len(people) - at_all,
        overlap=overlap,
    )


class _People:
    """Tracks of `count` people while frames are matched; -1 stands for none."""

    def __init__(self, count: int) -> None:
        self._last = np.full(count, -1)  # track of the last match, in any frame
        self._now = np.full(count, -1)  # track in the last frame that was matched

    def match(
        self, iou: FloatArray, person: IntArray, track: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Rows and columns of the pairs: most continued tracks first, then the largest overlap."""
        worth = iou + _KEEP * (track[None, :] == self._now[person][:, None])
        worth[iou < IOU_THRESHOLD - _EPSILON] = 0
        rows, columns = linear_sum_assignment(-worth)
        matched = worth[rows, columns] > _EPSILON
        return rows[matched], columns[matched]

    def take(self, person: IntArray, track: IntArray) -> NDArray[np.bool_]:
        """Record the matches of a frame; `(k,)` whether each person has changed its track."""
        before = self._last[person]
        self._last[person] = track
        self._now[:] = -1
        self._now[person] = track
        switched: NDArray[np.bool_] = (before >= 0) & (before != track)
        return switched

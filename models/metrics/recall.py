"""Who is found, and how exactly: recall and overlap by how covered and how tall people are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from jde_ray.models.metrics.clear import clear_matches
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.switches import overlap_with_others
from jde_ray.models.structures import FloatArray, IntArray

GOOD_OVERLAP = 0.7  # IoU of an accurate box
OVERLAP_EDGES = (0.0, 0.3, 0.5)  # largest IoU with another person: none, and up to each next edge
HEIGHT_EDGES = (32.0, 64.0, 128.0, 256.0)  # pixels
OVERLAP_CLASSES = ("0", "to .3", ".3 to .5", "> .5")
CROWDED = "> .3"  # the last two of them together
HEIGHT_CLASSES = ("to 32", "to 64", "to 128", "to 256", "> 256")


@dataclass(frozen=True)
class ClassCounts:
    """Counts by class of people; arrays are `(k,)`, one value per class. They add up with `+`.

    Attributes:
        boxes: Boxes of people.
        matches: Boxes that a track found, as CLEAR counts them.
        overlap: Sum of IoU over the matches.
        good: Matches with an IoU above .7.
    """

    boxes: FloatArray
    matches: FloatArray
    overlap: FloatArray
    good: FloatArray

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def figures(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Figures by class, `all` last: counts, and ratios in percent, NaN without a box.

        Args:
            names: `(k,)` names of the classes.
        """
        columns = [np.append(getattr(self, f.name), getattr(self, f.name).sum()) for f in
                   fields(self)]  # fmt: skip
        return {
            name: {
                "boxes": int(boxes),
                "Rcll": _percent(matches, boxes),
                "mean IoU": _percent(overlap, matches),
                "IoU > .7": _percent(good, matches),
            }
            for name, boxes, matches, overlap, good in zip([*names, "all"], *columns, strict=True)
        }


@dataclass(frozen=True)
class Recall:
    """Counts by the largest IoU with another person (`OVERLAP_CLASSES`) and by height."""

    by_overlap: ClassCounts
    by_height: ClassCounts

    def __add__(self, other: Recall) -> Recall:
        return Recall(self.by_overlap + other.by_overlap, self.by_height + other.by_height)


def count_recall(truth: BoxRows, tracks: BoxRows) -> Recall:
    """Count who is found in a sequence.

    Args:
        truth: People to be found; an id has at most one box per frame.
        tracks: People found, without those on distractors; an id has at most one box per frame.
    """
    iou = np.full(len(truth), np.nan)
    for one in clear_matches(truth, tracks):
        iou[one.people] = one.overlap
    covered = np.searchsorted(OVERLAP_EDGES, overlap_with_others(truth), side="left")
    tall = np.searchsorted(HEIGHT_EDGES, truth.tlbr[:, 3] - truth.tlbr[:, 1], side="left")
    return Recall(
        count_classes(covered, iou, len(OVERLAP_CLASSES)),
        count_classes(tall, iou, len(HEIGHT_CLASSES)),
    )


def overlap_figures(counts: ClassCounts) -> dict[str, dict[str, float]]:
    """Figures by `OVERLAP_CLASSES`, with one line for all people above .3 (`CROWDED`)."""
    crowded = ClassCounts(*(getattr(counts, field.name)[2:] for field in fields(counts)))
    figures = counts.figures(OVERLAP_CLASSES)
    whole = figures.pop("all")
    return {**figures, CROWDED: crowded.figures(OVERLAP_CLASSES[2:])["all"], "all": whole}


def count_classes(number: IntArray, iou: FloatArray, size: int) -> ClassCounts:
    """Counts by class.

    Args:
        number: `(n,)` class of each person, from 0.
        iou: `(n,)` IoU with what found them; NaN for those who were not found.
        size: Number of classes.
    """
    found = ~np.isnan(iou)
    weights = (np.ones(len(iou)), found, np.where(found, iou, 0), found & (iou > GOOD_OVERLAP))
    sums = (np.bincount(number, weight, size).astype(np.float64) for weight in weights)
    return ClassCounts(*sums)


def _percent(part: float, whole: float) -> float:
    return 100 * float(part) / float(whole) if whole else float("nan")

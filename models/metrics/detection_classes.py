"""Who is detected, and how exactly, by height, by visible share and by overlap with others.

The average precision of a class ranks the detections of its people and the wrong ones: of a class
of height the wrong detections of that height, of a class of visible share all of them, since a
wrong detection has none. So it compares networks, not classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.metrics.detection import match_best_first, rank
from jde_ray.models.metrics.recall import (
    OVERLAP_CLASSES,
    OVERLAP_EDGES,
    ClassCounts,
    count_classes,
    overlap_figures,
)
from jde_ray.models.structures import FloatArray, IntArray

HEIGHT_SIZE = (576, 320)  # heights are those in a frame letterboxed into this, whatever was run
HEIGHT_EDGES = (30.0, 45.0, 70.0)  # pixels; an edge belongs to the class above it
HEIGHT_CLASSES = ("< 30", "30 to 45", "45 to 70", ">= 70")
VISIBLE_EDGES = (0.25, 0.5, 0.75)  # share of a person that is visible, likewise
VISIBLE_CLASSES = ("< .25", ".25 to .5", ".5 to .75", ">= .75")
SURE = 0.5  # the default `--conf`, for recall at one threshold


@dataclass(frozen=True)
class JudgedDetections:
    """People with what found them, and the detections that found nobody. They add up with `+`.

    Attributes:
        height: `(n,)` heights of people in pixels of `HEIGHT_SIZE`; None if the size of the frames
            is unknown.
        visible: `(n,)` visible shares of people; None if the ground truth has none.
        covered: `(n,)` largest IoU of each person with another one of the frame.
        score: `(n,)` score of the detection that found them; NaN if none did.
        overlap: `(n,)` IoU with it, likewise.
        wrong_score: `(k,)` scores of detections that found nobody.
        wrong_height: `(k,)` their heights; None like `height`.
    """

    height: FloatArray | None
    visible: FloatArray | None
    covered: FloatArray
    score: FloatArray
    overlap: FloatArray
    wrong_score: FloatArray
    wrong_height: FloatArray | None

    def __add__(self, other: JudgedDetections) -> JudgedDetections:
        return JudgedDetections(
            height=_both(self.height, other.height),
            visible=_both(self.visible, other.visible),
            covered=np.concatenate([self.covered, other.covered]),
            score=np.concatenate([self.score, other.score]),
            overlap=np.concatenate([self.overlap, other.overlap]),
            wrong_score=np.concatenate([self.wrong_score, other.wrong_score]),
            wrong_height=_both(self.wrong_height, other.wrong_height),
        )

    def by_height(self) -> dict[str, dict[str, float]]:
        """Figures by `HEIGHT_CLASSES`, `all` last.

        Raises:
            ValueError: If heights are unknown.
        """
        if self.height is None or self.wrong_height is None:
            raise ValueError("heights: got none, expected frames of known size")
        own, wrong = (_classes(HEIGHT_EDGES, of) for of in (self.height, self.wrong_height))
        return self._figures(own, wrong, HEIGHT_CLASSES)

    def by_visible_share(self) -> dict[str, dict[str, float]]:
        """Figures by `VISIBLE_CLASSES`, `all` last.

        Raises:
            ValueError: If visible shares are unknown.
        """
        if self.visible is None:
            raise ValueError("visible shares: got none, expected ground truth that has them")
        return self._figures(_classes(VISIBLE_EDGES, self.visible), None, VISIBLE_CLASSES)

    def by_overlap(self) -> dict[str, dict[str, float]]:
        """Figures by `models.metrics.recall.OVERLAP_CLASSES`, `all` last, without AP."""
        number = np.searchsorted(OVERLAP_EDGES, self.covered, side="left")
        figures, sure = map(overlap_figures, self._counts(number, len(OVERLAP_CLASSES)))
        return {name: _line(own, sure[name]) for name, own in figures.items()}

    def _counts(self, number: IntArray, size: int) -> tuple[ClassCounts, ClassCounts]:
        """Counts of everyone found, and of those found with a score of at least `SURE`."""
        sure = np.where(self.score >= SURE, self.overlap, np.nan)
        return count_classes(number, self.overlap, size), count_classes(number, sure, size)

    def _figures(
        self, number: IntArray, wrong: IntArray | None, names: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """Figures by class.

        Args:
            number: `(n,)` class of each person.
            wrong: `(k,)` class of each detection that found nobody; None if they count everywhere.
            names: Names of the classes.
        """
        figures, sure = (one.figures(names) for one in self._counts(number, len(names)))
        lines = {}
        for k, (name, own) in enumerate(figures.items()):
            inside = number == k if name != "all" else np.ones(len(number), bool)
            of_class = slice(None) if wrong is None or name == "all" else wrong == k
            area = self._average_precision(inside, self.wrong_score[of_class])
            lines[name] = _line(own, sure[name], {"AP": 100 * area})
        return lines

    def _average_precision(self, people: NDArray[np.bool_], wrong: FloatArray) -> float:
        found = self.score[people & ~np.isnan(self.score)]
        right = np.arange(len(found) + len(wrong)) < len(found)
        return rank(right, np.concatenate([found, wrong]), int(people.sum())).average_precision


def judge_detections(
    truths: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    scores: Sequence[FloatArray],
    *,
    visible: Sequence[FloatArray] | None = None,
    frame_size: tuple[int, int] | None = None,
) -> JudgedDetections:
    """Match the detections of a sequence as `models.metrics.detection.score_detections` does.

    Args:
        truths: Per image, `(n, 4)` tlbr boxes of people in source pixels.
        boxes: Per image, `(m, 4)` tlbr boxes found.
        scores: Per image, `(m,)` scores of the boxes found.
        visible: Per image, `(n,)` visible shares of people in [0, 1]; None if unknown.
        frame_size: Width and height of the frames in source pixels; None if unknown.

    Raises:
        ValueError: If the sequences differ in length.
    """
    nothing: FloatArray = np.zeros(0)
    covered, score, overlap = [nothing], [nothing], [nothing]
    wrong_boxes: list[FloatArray] = [np.zeros((0, 4))]
    wrong_scores = [nothing]
    for truth, box, of_box in zip(truths, boxes, scores, strict=True):
        iou = iou_matrix(box, truth)
        person = match_best_first(iou, of_box)
        found = np.flatnonzero(person >= 0)
        own_score, own_overlap = np.full(len(truth), np.nan), np.full(len(truth), np.nan)
        own_score[person[found]] = of_box[found]
        own_overlap[person[found]] = iou[found, person[found]]
        score.append(own_score)
        overlap.append(own_overlap)
        covered.append(_covered(truth))
        wrong_boxes.append(box[person < 0])
        wrong_scores.append(of_box[person < 0])
    ratio = None if frame_size is None else Letterbox(*frame_size, *HEIGHT_SIZE).ratio
    return JudgedDetections(
        _heights(np.concatenate([np.zeros((0, 4)), *truths]), ratio),
        None if visible is None else np.concatenate([nothing, *visible]),
        np.concatenate(covered),
        np.concatenate(score),
        np.concatenate(overlap),
        np.concatenate(wrong_scores),
        _heights(np.concatenate(wrong_boxes), ratio),
    )


def _both(one: FloatArray | None, other: FloatArray | None) -> FloatArray | None:
    if one is None or other is None:
        return None
    both: FloatArray = np.concatenate([one, other])
    return both


def _covered(people: FloatArray) -> FloatArray:
    """`(n,)` largest IoU of every box `(n, 4)` with another one."""
    iou = iou_matrix(people, people)
    np.fill_diagonal(iou, 0)
    largest: FloatArray = iou.max(axis=1, initial=0)
    return largest


def _heights(tlbr: FloatArray, ratio: float | None) -> FloatArray | None:
    if ratio is None:
        return None
    heights: FloatArray = (tlbr[:, 3] - tlbr[:, 1]) * ratio
    return heights


def _classes(edges: Sequence[float], values: FloatArray) -> IntArray:
    number: IntArray = np.searchsorted(edges, values, side="right")
    return number


def _line(
    found: dict[str, float], sure: dict[str, float], more: dict[str, float] | None = None
) -> dict[str, float]:
    """One line of a table: the number of people first, then AP if there is one."""
    rest = {column: value for column, value in found.items() if column not in ("boxes", "Rcll")}
    recall = {"Rcll": found["Rcll"], f"Rcll@{SURE:g}".replace("0.", "."): sure["Rcll"]}
    return {"boxes": found["boxes"], **(more or {}), **recall, **rest}

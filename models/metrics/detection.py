"""Average precision of detections: over a set of images, and as the published JDE reports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.structures import FloatArray, IntArray


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision-recall curve of detections ranked by score, one point per detection.

    Attributes:
        scores: `(m,)` falling; a point counts all detections with at least this score.
        precision: `(m,)` in [0, 1], as counted (not made monotone).
        recall: `(m,)` in [0, 1], rising.
        average_precision: Area under the curve with precision made monotone ("every point"
            interpolation); NaN without truth.
    """

    scores: FloatArray
    precision: FloatArray
    recall: FloatArray
    average_precision: float


@dataclass(frozen=True)
class DetectionScores:
    """How well people are found.

    Attributes:
        average_precision: Over all images ranked together, in [0, 1]; NaN without truth.
        published_mean: The figure that the published JDE calls AP: the mean of the images' own
            average precisions. It leaves out images without truth or without detections, and ranks
            few scores per image, so it is larger than `average_precision`. NaN without any image.
        num_published_images: Number of images in that mean.
        recall: Recall of all detections, at any score.
        precision: Precision of all detections; NaN without any.
        num_truth: Boxes to be found.
        num_detections: Boxes found.
        curve: Curve over all images together.
    """

    average_precision: float
    published_mean: float
    num_published_images: int
    recall: float
    precision: float
    num_truth: int
    num_detections: int
    curve: PrecisionRecall


def score_detections(
    truths: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    scores: Sequence[FloatArray],
    *,
    iou_threshold: float = 0.5,
) -> DetectionScores:
    """Compare detections with the truth, best scores first; each true box is matched once.

    A detection is right if its IoU with the free true box it overlaps most is at least
    `iou_threshold`. The published figure takes the box it overlaps most, free or not, and requires
    more than `iou_threshold`.

    Args:
        truths: Per image, `(n, 4)` tlbr boxes to be found.
        boxes: Per image, `(m, 4)` tlbr boxes found.
        scores: Per image, `(m,)` scores of the boxes found.
        iou_threshold: Smallest IoU of a match.

    Raises:
        ValueError: If the sequences differ in length.
    """
    if not len(truths) == len(boxes) == len(scores):
        got = (len(truths), len(boxes), len(scores))
        raise ValueError(f"truths, boxes, scores: got {got} images, expected one number")
    right: list[NDArray[np.bool_]] = []
    published: list[float] = []
    for truth, box, score in zip(truths, boxes, scores, strict=True):
        iou = iou_matrix(box, truth)
        order = np.argsort(-score, kind="stable")
        right.append(match_best_first(iou, score, iou_threshold) >= 0)
        if len(truth) and len(box):
            own = _right_published(iou, order, iou_threshold)
            published.append(rank(own, score, len(truth)).average_precision)
    num_truth = sum(len(truth) for truth in truths)
    all_right = np.concatenate([np.zeros(0, bool), *right])
    curve = rank(all_right, np.concatenate([np.zeros(0), *scores]), num_truth)
    hits = int(all_right.sum())
    return DetectionScores(
        average_precision=curve.average_precision,
        published_mean=float(np.mean(published)) if published else float("nan"),
        num_published_images=len(published),
        recall=hits / num_truth if num_truth else float("nan"),
        precision=hits / len(all_right) if len(all_right) else float("nan"),
        num_truth=num_truth,
        num_detections=len(all_right),
        curve=curve,
    )


def rank(right: NDArray[np.bool_], scores: FloatArray, num_truth: int) -> PrecisionRecall:
    """Precision and recall as detections are added in order of falling score.

    Args:
        right: `(m,)` whether a detection is right; each true box makes at most one right.
        scores: `(m,)` in any order; equal ones keep their order.
        num_truth: Boxes to be found.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / max(num_truth, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope)) if num_truth else float("nan")
    return PrecisionRecall(scores[order], precision, recall, area)


def match_best_first(iou: FloatArray, scores: FloatArray, iou_threshold: float = 0.5) -> IntArray:
    """Match detections of one image, best scores first, each to the free true box it overlaps most.

    Args:
        iou: `(m, n)` overlaps of detections with true boxes.
        scores: `(m,)` scores of the detections.
        iou_threshold: Smallest IoU of a match.

    Returns:
        `(m,)` numbers of the true boxes; -1 for detections without a match.
    """
    found = np.full(len(iou), -1)
    if not iou.size:
        return found
    free = iou.copy()
    for index in np.argsort(-scores, kind="stable"):
        best = int(np.argmax(free[index]))
        if free[index, best] >= iou_threshold:
            found[index] = best
            free[:, best] = -1
    return found


def _right_published(iou: FloatArray, order: IntArray, threshold: float) -> NDArray[np.bool_]:
    best = iou.argmax(axis=1)
    right = np.zeros(iou.shape[0], bool)
    taken: set[int] = set()
    for index in order:
        if iou[index, best[index]] > threshold and int(best[index]) not in taken:
            taken.add(int(best[index]))
            right[index] = True
    return right

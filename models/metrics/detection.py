"""Average precision of detections over a set of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.boxes import iou_matrix
from models.structures import FloatArray


@dataclass(frozen=True)
class DetectionScores:
    """How well people are found.

    Attributes:
        average_precision: Area under the precision-recall curve, in [0, 1]; NaN without truth.
        recall: Of all detections, whatever their score.
        precision: Likewise; NaN without detections.
        num_truth: Boxes to be found.
        num_detections: Boxes found.
    """

    average_precision: float
    recall: float
    precision: float
    num_truth: int
    num_detections: int


def score_detections(
    truths: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    scores: Sequence[FloatArray],
    *,
    iou_threshold: float = 0.5,
) -> DetectionScores:
    """Compare detections with the truth, best scores first, each truth taken once.

    Args:
        truths: An image, `(n, 4)` tlbr boxes to be found.
        boxes: An image, `(m, 4)` tlbr boxes found.
        scores: An image, `(m,)` their scores.
        iou_threshold: A detection is right when it overlaps a free box of the truth by so much.

    Returns:
        Average precision (every point of the curve, precision made monotone) and totals.

    Raises:
        ValueError: If the sequences differ in length.
    """
    if not len(truths) == len(boxes) == len(scores):
        got = (len(truths), len(boxes), len(scores))
        raise ValueError(f"truths, boxes, scores: got {got} images, accepted is one number")
    right = [
        _right(truth, box, score, iou_threshold)
        for truth, box, score in zip(truths, boxes, scores, strict=True)
    ]
    num_truth = sum(len(truth) for truth in truths)
    order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
    is_right = np.concatenate([np.zeros(0, bool), *right])[order]
    hits = np.cumsum(is_right)
    total = int(hits[-1]) if len(hits) else 0
    recall = np.concatenate([[0.0], hits / max(num_truth, 1)])
    precision = np.concatenate([[1.0], hits / np.arange(1, len(hits) + 1)])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall) * envelope[1:]))
    return DetectionScores(
        average_precision=area if num_truth else float("nan"),
        recall=total / num_truth if num_truth else float("nan"),
        precision=total / len(hits) if len(hits) else float("nan"),
        num_truth=num_truth,
        num_detections=len(hits),
    )


def _right(
    truth: FloatArray, boxes: FloatArray, scores: FloatArray, iou_threshold: float
) -> FloatArray:
    """`(m,)` bool in the order of `boxes`: which take a box of the truth."""
    right = np.zeros(len(boxes), bool)
    if not len(truth) or not len(boxes):
        return right
    iou = iou_matrix(boxes, truth)
    for index in np.argsort(-scores, kind="stable"):
        best = int(np.argmax(iou[index]))
        if iou[index, best] >= iou_threshold:
            right[index] = True
            iou[:, best] = -1
    return right

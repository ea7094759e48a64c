"""Matches boxes of one frame by overlap, independently of identities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.rows import BoxRows, by_frame
from jde_ray.models.structures import FloatArray, IntArray

IOU_THRESHOLD = 0.5
_EPSILON = float(np.finfo(float).eps)


def match_boxes(a: FloatArray, b: FloatArray) -> tuple[IntArray, IntArray]:
    """Pairs with the largest sum of IoU, each at least .5.

    Args:
        a: `(m, 4)` tlbr.
        b: `(n, 4)` tlbr in the same frame.

    Returns:
        `(k,)` rows of `a`, in ascending order, and the `(k,)` rows of `b` that they match.
    """
    iou = iou_matrix(a, b)
    iou[iou < IOU_THRESHOLD - _EPSILON] = 0
    rows, columns = linear_sum_assignment(-iou)
    matched = iou[rows, columns] > 0
    return rows[matched], columns[matched]


def match_rows(truth: BoxRows, found: BoxRows) -> tuple[IntArray, IntArray]:
    """Matches of a whole sequence, frame by frame, as `match_boxes` pairs them.

    Returns:
        `(k,)` rows of `truth` and the `(k,)` rows of `found` that they match, by frame.
    """
    people: list[IntArray] = [np.zeros(0, np.int64)]
    boxes: list[IntArray] = [np.zeros(0, np.int64)]
    for _, (i, j) in by_frame(truth, found):
        rows, columns = match_boxes(truth.tlbr[i], found.tlbr[j])
        people.append(i[rows])
        boxes.append(j[columns])
    return np.concatenate(people), np.concatenate(boxes)

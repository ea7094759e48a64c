"""Greedy non-maximum suppression on the CPU, by OpenCV.

On a GPU the joint network uses `jde_ray.models.jde.decode.nms`, which keeps the same boxes without
waiting for the host.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray


def suppress(tlbr: FloatArray, threshold: float) -> NDArray[np.intp]:
    """Keep every box that no kept box before it overlaps by more than a threshold.

    The overlap is the continuous IoU, without an added pixel, of all boxes whatever their class.
    A box without area overlaps nothing.

    Args:
        tlbr: `(N, 4)` finite corners in order of falling score.
        threshold: IoU in [0, 1].

    Returns:
        `(K,)` rows of the kept boxes, in ascending order.
    """
    tlwh = tlbr.astype(np.float64)
    tlwh[:, 2:] -= tlwh[:, :2]
    # OpenCV would take two boxes without area for the same one
    kept: NDArray[np.bool_] = np.any(tlwh[:, 2:] <= 0, axis=1)
    rows = np.flatnonzero(~kept)
    if len(rows):
        rank: Any = np.arange(len(rows), 0, -1, dtype=np.float32)  # scores in the order given
        boxes: Any = tlwh[rows]
        kept[rows[np.asarray(cv2.dnn.NMSBoxes(boxes, rank, 0.0, threshold))]] = True
    return np.flatnonzero(kept)

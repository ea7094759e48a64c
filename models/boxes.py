"""Boxes as arrays: conversions between the four forms, and overlap.

Forms: `tlbr` corners (x1, y1, x2, y2); `tlwh` corner and size; `xyah` centre, aspect w/h and
height (Kalman measurement); `cxcywh` centre and size (network). All use one pixel frame.
"""

from __future__ import annotations

import numpy as np

from jde_ray.models.structures import FloatArray


def tlwh_to_tlbr(tlwh: FloatArray) -> FloatArray:
    """`(N, 4)` x, y, w, h to corners.

    >>> tlwh_to_tlbr(np.array([[1.0, 2.0, 3.0, 4.0]])).tolist()
    [[1.0, 2.0, 4.0, 6.0]]
    """
    return np.concatenate([tlwh[:, :2], tlwh[:, :2] + tlwh[:, 2:]], axis=1)


def tlbr_to_tlwh(tlbr: FloatArray) -> FloatArray:
    """`(N, 4)` corners to x, y, w, h.

    >>> tlbr_to_tlwh(np.array([[1.0, 2.0, 4.0, 6.0]])).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """
    return np.concatenate([tlbr[:, :2], tlbr[:, 2:] - tlbr[:, :2]], axis=1)


def tlbr_to_xyah(tlbr: FloatArray) -> FloatArray:
    """`(N, 4)` corners to centre x, centre y, w / h, h. Heights must be positive.

    >>> tlbr_to_xyah(np.array([[0.0, 0.0, 2.0, 4.0]])).tolist()
    [[1.0, 2.0, 0.5, 4.0]]
    """
    width_height = tlbr[:, 2:] - tlbr[:, :2]
    xyah = np.empty(tlbr.shape, np.result_type(tlbr.dtype, np.float32))
    xyah[:, :2] = tlbr[:, :2] + width_height / 2
    xyah[:, 2] = width_height[:, 0] / width_height[:, 1]
    xyah[:, 3] = width_height[:, 1]
    return xyah


def xyah_to_tlbr(xyah: FloatArray) -> FloatArray:
    """`(N, 4)` centre, w / h, h to corners.

    >>> xyah_to_tlbr(np.array([[1.0, 2.0, 0.5, 4.0]])).tolist()
    [[0.0, 0.0, 2.0, 4.0]]
    """
    height = xyah[:, 3]
    half = np.stack([xyah[:, 2] * height, height], axis=1) / 2
    return np.concatenate([xyah[:, :2] - half, xyah[:, :2] + half], axis=1)


def cxcywh_to_tlbr(cxcywh: FloatArray) -> FloatArray:
    """`(N, 4)` centre and size to corners.

    >>> cxcywh_to_tlbr(np.array([[2.0, 3.0, 2.0, 4.0]])).tolist()
    [[1.0, 1.0, 3.0, 5.0]]
    """
    half = cxcywh[:, 2:] / 2
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)


def iou_matrix(a: FloatArray, b: FloatArray, *, pixel: float = 0.0) -> FloatArray:
    """Intersection over union of every pair.

    Args:
        a: `(M, 4)` tlbr.
        b: `(N, 4)` tlbr, same frame of reference.
        pixel: Added to every width and height: 1 for the inclusive-pixel overlap of the published
            tracker, 0 for the continuous one.

    Returns:
        `(M, N)` in [0, 1]; 0 for boxes without area.
    """
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    overlap = np.clip(width + pixel, 0, None) * np.clip(height + pixel, 0, None)
    area_a = (a[:, 2] - a[:, 0] + pixel) * (a[:, 3] - a[:, 1] + pixel)
    area_b = (b[:, 2] - b[:, 0] + pixel) * (b[:, 3] - b[:, 1] + pixel)
    union = area_a[:, None] + area_b[None, :] - overlap
    iou: FloatArray = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou

"""How well predicted tracks and detections agree in appearance, place and shape (Yu et al., 2016).

All affinities lie in [0, 1]. Tracks are their predicted states; places and sizes are in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.frame import Frame
from jde_ray.models.tracking.kalman import State


def look_affinity(tracks: NDArray[np.float32], frame: Frame) -> FloatArray:
    """Cosine of embeddings, at least 0; 1 for all pairs if there are none.

    Args:
        tracks: `(M, D)` L2-normalised embeddings of the tracks.
        frame: N detections.

    Returns:
        `(M, N)`.
    """
    if not tracks.shape[1]:
        return np.ones((len(tracks), len(frame)))
    cosine: FloatArray = (tracks @ frame.embeddings.T).astype(np.float64)
    return cosine.clip(0.0, 1.0)


def place_affinity(xyah: State, frame: Frame, weight: float) -> FloatArray:
    """`exp(-weight ((dx / w)^2 + (dy / h)^2))`, in sizes of the detection.

    Args:
        xyah: `(4, M)` predicted centres, aspects and heights.
        frame: N detections.
        weight: How fast it falls with the distance.

    Returns:
        `(M, N)`.
    """
    found = frame.xyah
    across = (xyah[0][:, None] - found[0]) / (found[2] * found[3])
    down = (xyah[1][:, None] - found[1]) / found[3]
    return np.asarray(np.exp(-weight * (across**2 + down**2)))


def shape_affinity(xyah: State, frame: Frame, weight: float) -> FloatArray:
    """`exp(-weight (|dh| / (h + h') + |dw| / (w + w')))`; arguments as of `place_affinity`."""
    apart = np.zeros((xyah.shape[1], len(frame)))
    for own, other in ((xyah[3], frame.xyah[3]), _widths(xyah, frame)):
        size = np.abs(own)[:, None] + other  # a predicted box may have lost its size
        apart += np.abs(own[:, None] - other) / size
    return np.asarray(np.exp(-weight * apart))


def _widths(xyah: State, frame: Frame) -> tuple[FloatArray, FloatArray]:
    return xyah[2] * xyah[3], frame.xyah[2] * frame.xyah[3]

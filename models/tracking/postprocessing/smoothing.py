"""Smoothing the boxes of finished tracks over all frames, with filterpy's Rauch-Tung-Striebel.

Unlike the tracker's filter, the smoother also uses later frames: it removes jitter, and boxes move
gradually to the place where a lost person is found again.
"""

from __future__ import annotations

import numpy as np
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray

from jde_ray.models.boxes import tlbr_to_xyah, xyah_to_tlbr
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories, with_boxes

# Standard deviations per frame as shares of the box's height: error of a measured box, and change
# of a velocity. Measured in docs/measurements/accuracy.md.
MEASUREMENT = 1 / 20
ACCELERATION = 1 / 160
_ASPECT_MEASUREMENT, _ASPECT_ACCELERATION = 0.05, 1e-3  # of width / height, without unit


def smooth(tracks: Trajectories, *, stride: int = 1) -> Trajectories:
    """Replace each box by the best estimate from all boxes of its track.

    The filter skips frames without a box; they get no row.

    Args:
        tracks: Tracks of one video; boxes have a positive height.
        stride: Every n-th frame was tracked; this is the unit of time.
    """
    tlbr = tracks.tlbr.copy()
    for start, end in zip(*tracks.spans(), strict=True):
        if end - start > 2:
            rows = slice(start, end)
            tlbr[rows] = _smooth_one(tracks.frame[rows] // stride, tracks.tlbr[rows])
    return with_boxes(tracks, tlbr)


def _smooth_one(step: IntArray, tlbr: FloatArray) -> FloatArray:
    """Smoothed `(n, 4)` boxes of one track at `(n,)` rising time steps."""
    xyah = tlbr_to_xyah(tlbr)
    when = step - step[0]
    count = int(when[-1]) + 1
    height = np.interp(np.arange(count), when, xyah[:, 3])
    measured: list[FloatArray | None] = [None] * count
    for at, values in zip(when, xyah, strict=True):
        measured[int(at)] = values
    noise = [np.diag(_measurement_std(value) ** 2) for value in height]
    process = [_process_noise(value) for value in height]
    model = KalmanFilter(dim_x=8, dim_z=4)
    model.F = np.eye(8) + np.eye(8, k=4)
    model.H = np.eye(4, 8)
    model.x = np.concatenate([xyah[0], np.zeros(4)])
    spread = np.concatenate([2 * _measurement_std(height[0]), 10 * _velocity_std(height[0])])
    model.P = np.diag(spread**2)
    means, covariances, _, _ = model.batch_filter(measured, Qs=process, Rs=noise)
    smoothed, _, _, _ = model.rts_smoother(means, covariances, Qs=process)
    boxes: FloatArray = xyah_to_tlbr(smoothed.reshape(count, 8)[when][:, :4])
    return boxes


def _measurement_std(height: float) -> NDArray[np.float64]:
    position = MEASUREMENT * height
    return np.array([position, position, _ASPECT_MEASUREMENT, position])


def _velocity_std(height: float) -> NDArray[np.float64]:
    change = ACCELERATION * height
    return np.array([change, change, _ASPECT_ACCELERATION, change])


def _process_noise(height: float) -> NDArray[np.float64]:
    """Covariance `(8, 8)` of a step with constant random acceleration of each coordinate."""
    variance = _velocity_std(height) ** 2
    noise = np.zeros((8, 8))
    index = np.arange(4)
    noise[index, index] = variance / 3
    noise[index, index + 4] = noise[index + 4, index] = variance / 2
    noise[index + 4, index + 4] = variance
    return noise

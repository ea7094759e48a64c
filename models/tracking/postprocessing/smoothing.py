"""Smoothing the boxes of finished tracks over all frames, by a Rauch-Tung-Striebel smoother.

Unlike the tracker's filter, the smoother also uses later frames: it removes jitter, and boxes move
gradually to the place where a lost person is found again.

Centre, aspect and height each have a filter of two states, value and velocity, and do not affect
one another. So all coordinates of many tracks take a step at once, in closed form; filterpy, whose
results these are (to 1e-9, see the test), takes one step of one track at a time, 20 times slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jde_ray.models.boxes import tlbr_to_xyah, xyah_to_tlbr
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories, with_boxes

# Standard deviations per frame as shares of the box's height: error of a measured box, and change
# of a velocity. Measured in docs/measurements/accuracy.md.
MEASUREMENT = 1 / 20
ACCELERATION = 1 / 160
_ASPECT_MEASUREMENT, _ASPECT_ACCELERATION = 0.05, 1e-3  # of width / height, without unit
_STEPS = 1 << 17  # of all tracks that are smoothed at once


def smooth(tracks: Trajectories, *, stride: int = 1) -> Trajectories:
    """Replace each box by the best estimate from all boxes of its track.

    The filter skips frames without a box; they get no row. A box without height counts as none,
    since heights scale the noise; it stays as it is.

    Args:
        tracks: Tracks of one video.
        stride: Every n-th frame was tracked; this is the unit of time.
    """
    tlbr = tracks.tlbr.copy()
    has_height = tlbr[:, 3] > tlbr[:, 1]
    if not has_height.all():
        tlbr[has_height] = smooth(tracks[has_height], stride=stride).tlbr
        return with_boxes(tracks, tlbr)
    starts, ends = tracks.spans()
    longer = ends - starts > 2
    starts, ends = starts[longer], ends[longer]
    steps = (tracks.frame[ends - 1] - tracks.frame[starts]) // stride + 1
    order = np.argsort(steps, kind="stable")
    first = 0
    while first < len(order):
        # tracks of similar length, so that little is padded
        last = first + 1
        while last < len(order) and (last + 1 - first) * steps[order[last]] <= _STEPS:
            last += 1
        batch = order[first:last]
        _smooth_batch(tracks, tlbr, starts[batch], ends[batch], stride)
        first = last
    return with_boxes(tracks, tlbr)


def _smooth_batch(
    tracks: Trajectories, tlbr: FloatArray, starts: IntArray, ends: IntArray, stride: int
) -> None:
    """Smooth some tracks; their rows of `tlbr` are replaced."""
    length = ends - starts
    rows = np.repeat(starts - np.append(0, np.cumsum(length)[:-1]), length)
    rows = rows + np.arange(len(rows))
    number = np.repeat(np.arange(len(starts)), length)
    step = (tracks.frame[rows] - np.repeat(tracks.frame[starts], length)) // stride
    count = int(step.max()) + 1
    measured = np.full((count, len(starts), 4), np.nan)
    measured[step, number] = tlbr_to_xyah(tracks.tlbr[rows])
    height = np.empty((count, len(starts)))
    for k, (low, high) in enumerate(zip(starts, ends, strict=True)):
        own = (tracks.frame[low:high] - tracks.frame[low]) // stride
        tall = tracks.tlbr[low:high, 3] - tracks.tlbr[low:high, 1]
        height[:, k] = np.interp(np.arange(count), own, tall)
    smoothed = _smooth_values(measured, height)
    tlbr[rows] = xyah_to_tlbr(smoothed[step, number])


@dataclass
class _State:
    """Value, velocity, and their variances and covariance, each `(tracks, 4)`."""

    value: FloatArray
    velocity: FloatArray
    variance: FloatArray
    covariance: FloatArray
    velocity_variance: FloatArray


def _smooth_values(measured: FloatArray, height: FloatArray) -> FloatArray:
    """Smoothed values.

    Args:
        measured: `(steps, tracks, 4)` centre, aspect and height; NaN where there is no box.
        height: `(steps, tracks)` heights, which scale the noise.
    """
    ones = np.ones_like(height)
    error = _by_coordinate(MEASUREMENT * height, _ASPECT_MEASUREMENT * ones)
    change = _by_coordinate(ACCELERATION * height, _ASPECT_ACCELERATION * ones)
    is_seen = ~np.isnan(measured[:, :, :1])
    state = _State(
        measured[0],
        np.zeros_like(measured[0]),
        (2 * error[0]) ** 2,
        np.zeros_like(measured[0]),
        (10 * change[0]) ** 2,
    )
    predicted, filtered = [], []
    for k in range(len(measured)):
        ahead = _predict(state, change[k] ** 2)
        state = _update(ahead, measured[k], error[k] ** 2, is_seen[k])
        predicted.append(ahead)
        filtered.append(state)
    result = np.empty_like(measured)
    later = filtered[-1]
    result[-1] = later.value
    for k in range(len(measured) - 2, -1, -1):
        later = _look_back(filtered[k], predicted[k + 1], later)
        result[k] = later.value
    return result


def _by_coordinate(length: FloatArray, aspect: FloatArray) -> FloatArray:
    return np.stack([length, length, aspect, length], axis=-1)


def _predict(state: _State, variance: FloatArray) -> _State:
    """A step ahead with constant random acceleration of the given variance."""
    return _State(
        state.value + state.velocity,
        state.velocity,
        state.variance + 2 * state.covariance + state.velocity_variance + variance / 3,
        state.covariance + state.velocity_variance + variance / 2,
        state.velocity_variance + variance,
    )


def _update(
    state: _State, measured: FloatArray, variance: FloatArray, is_seen: FloatArray
) -> _State:
    """The state with a measurement, where there is one."""
    spread = state.variance + variance
    gain = np.where(is_seen, state.variance / spread, 0.0)
    velocity_gain = np.where(is_seen, state.covariance / spread, 0.0)
    surprise = np.where(is_seen, measured - state.value, 0.0)
    return _State(
        state.value + gain * surprise,
        state.velocity + velocity_gain * surprise,
        (1 - gain) * state.variance,
        (1 - gain) * state.covariance,
        state.velocity_variance - velocity_gain * state.covariance,
    )


def _look_back(state: _State, ahead: _State, later: _State) -> _State:
    """The state with what the later steps say; only values and velocities are needed."""
    determinant = ahead.variance * ahead.velocity_variance - ahead.covariance**2
    # rows of covariance(state, ahead) times the inverse of the covariance of `ahead`
    value, velocity = state.variance + state.covariance, state.covariance
    a = (value * ahead.velocity_variance - velocity * ahead.covariance) / determinant
    b = (velocity * ahead.variance - value * ahead.covariance) / determinant
    value, velocity = state.covariance + state.velocity_variance, state.velocity_variance
    c = (value * ahead.velocity_variance - velocity * ahead.covariance) / determinant
    d = (velocity * ahead.variance - value * ahead.covariance) / determinant
    off, off_velocity = later.value - ahead.value, later.velocity - ahead.velocity
    return _State(
        state.value + a * off + b * off_velocity,
        state.velocity + c * off + d * off_velocity,
        state.variance,
        state.covariance,
        state.velocity_variance,
    )

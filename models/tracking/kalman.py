"""The constant-velocity Kalman filter of M tracks at once, in closed form.

The measurement is a box as `xyah` (centre x, centre y, aspect w / h, height; in pixels except the
aspect); the state is the measurement and its velocity per frame. Transition, noise and measurement
treat the four coordinates alike and independently, so the 8x8 covariance stays block-diagonal, with
a 2x2 block per coordinate (position variance, covariance, velocity variance). Predicting, updating
and gating M tracks therefore take a few elementwise operations on `(4, M)` arrays, without a matrix
solve, and equal the textbook filter up to rounding.

Layout: `state` is `(20, M)` float64, one column per track, five blocks of four rows (x, y, a, h):
position, velocity, position variance, covariance, velocity variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

State = NDArray[np.float64]

STATE_ROWS = 20
GATE = 9.4877  # 0.95 quantile of chi-square with 4 degrees of freedom

POSITION = slice(0, 4)
VELOCITY = slice(4, 8)
MEAN = slice(0, 8)
POSITION_VARIANCE = slice(8, 12)
COVARIANCE = slice(12, 16)
VELOCITY_VARIANCE = slice(16, 20)

_POSITION_WEIGHT = 1 / 20  # standard deviations are these shares of the track's height
_VELOCITY_WEIGHT = 1 / 160

# variance = height^2 * scale + floor; the aspect (third row) has constant noise instead
_PROCESS_SCALE = np.array([[_POSITION_WEIGHT**2], [_VELOCITY_WEIGHT**2]]).repeat(4, axis=0)
_PROCESS_SCALE[[2, 6]] = 0
_PROCESS_FLOOR = np.zeros((8, 1))
_PROCESS_FLOOR[[2, 6], 0] = 1e-2**2, 1e-5**2
_MEASUREMENT_SCALE = _PROCESS_SCALE[:4].copy()
_MEASUREMENT_ASPECT = 1e-1**2
_INITIAL_SCALE = np.array([[(2 * _POSITION_WEIGHT) ** 2], [(10 * _VELOCITY_WEIGHT) ** 2]]).repeat(
    4, axis=0
)
_INITIAL_SCALE[[2, 6]] = 0

# how a state scales with the picture, by row: velocity of the height like the height, variances by
# the square; aspects not at all, and `move` maps x and y themselves
_POWERS_OF_SCALE = np.array([0, 0, 0, 1] * 2 + [2, 2, 0, 2] * 3, np.float64)[:, None]


def measure(xyah: State) -> State:
    """Measurements `(4, N)` of boxes as `xyah`; here they are the same."""
    return xyah


def initiate(xyah: State) -> State:
    """State `(20, N)` of tracks that start at `(4, N)` measurements with velocity 0."""
    state = np.zeros((STATE_ROWS, xyah.shape[1]))
    state[POSITION] = xyah
    variance = xyah[3] ** 2 * _INITIAL_SCALE + _PROCESS_FLOOR
    state[POSITION_VARIANCE] = variance[:4]
    state[VELOCITY_VARIANCE] = variance[4:]
    return state


def predict(state: State, dt: float = 1.0, noise_share: float = 1.0) -> None:
    """Move the states `dt` frames ahead, in place.

    The noise of `dt` frames is the sum over `dt` steps of one frame at constant height. For an
    integer `dt` the covariance therefore equals that of `dt` single steps, and dt = 1 is the plain
    filter, P = F P F' + Q.

    Args:
        state: `(20, M)`.
        dt: Frames since the last prediction, greater than 0.
        noise_share: Share of the process noise of places and heights; aspects keep theirs.
    """
    height = state[3]
    squares = height * height
    if noise_share != 1.0:
        squares *= noise_share
    noise = squares * _PROCESS_SCALE
    noise += _PROCESS_FLOOR
    position_variance = state[POSITION_VARIANCE]
    covariance = state[COVARIANCE]
    velocity_variance = state[VELOCITY_VARIANCE]
    position = state[POSITION]
    if dt == 1.0:
        position += state[VELOCITY]
        position_variance += covariance
        covariance += velocity_variance
        position_variance += covariance
        position_variance += noise[:4]
        velocity_variance += noise[4:]
        return
    position += dt * state[VELOCITY]
    position_variance += 2 * dt * covariance + dt * dt * velocity_variance
    covariance += dt * velocity_variance
    position_noise, velocity_noise = process_noise(dt)
    position_variance += dt * noise[:4] + position_noise * noise[4:]
    covariance += velocity_noise * noise[4:]
    velocity_variance += dt * noise[4:]


def move(state: State, motion: NDArray[np.float64]) -> None:
    """Move the states with the picture when the camera moves, in place.

    Position and velocity are mapped, heights and their velocities scaled; people keep their aspect.
    Deviations scale too. Those of x and y are equal, so that this is exact for a similarity.

    Args:
        state: `(20, M)`.
        motion: `(2, 3)`, maps pixels of the frame before to pixels of this frame.
    """
    across_and_down = state.reshape(5, 4, state.shape[1])[:2, :2]  # a view: places, velocities
    np.matmul(motion[:, :2], across_and_down, out=across_and_down)
    centre = state[:2]
    centre += motion[:, 2:]
    state *= scale_of(motion) ** _POWERS_OF_SCALE


def joined_motion(motions: Sequence[State | None]) -> State | None:
    """The motion `(2, 3)` over several frames, in order; None if that of one of them is unknown."""
    whole = np.eye(3)
    for motion in motions:
        if motion is None:
            return None
        whole = np.vstack([motion, [0.0, 0.0, 1.0]]) @ whole
    return whole[:2]


def scale_of(motion: NDArray[np.float64]) -> float:
    """Length after a motion `(2, 3)` of what had length 1: the root of its change of area."""
    (right, up, _), (left, down, _) = motion.tolist()
    return math.sqrt(abs(right * down - up * left))


def process_noise(dt: float) -> tuple[float, float]:
    """Factors by which one frame's velocity noise enters position variance and covariance.

    Returns:
        Sum of k^2 and sum of k over k = 0 .. dt - 1, extended to real dt; 0, 0 for dt = 1.

    >>> process_noise(3.0)
    (5.0, 3.0)
    """
    return dt * (dt - 1) * (2 * dt - 1) / 6, dt * (dt - 1) / 2


def innovation_variance(state: State, noise_share: float = 1.0) -> State:
    """Diagonal of S = H P H' + R for every track, `(4, M)`; `noise_share` is that of R."""
    height = state[3]
    squares = height * height
    if noise_share != 1.0:
        squares *= noise_share
    variance: State = squares * _MEASUREMENT_SCALE
    variance += state[POSITION_VARIANCE]
    variance[2] += noise_share * _MEASUREMENT_ASPECT
    return variance


def shift(state: State, columns: NDArray[np.intp], by: State, gain: float) -> None:
    """Move the centres of these columns by `(2, 1)` pixels, their velocities by `gain` of it."""
    state[:2, columns] += by
    state[4:6, columns] += gain * by


def correct(state: State, xyah: State, variance: State) -> None:
    """Update each state with its measurement, in place.

    Args:
        state: `(20, M)`, contiguous.
        xyah: `(4, M)` measurements.
        variance: `(4, M)` `innovation_variance` of the same states.
    """
    spread = state[8:16].reshape(2, 4, -1)  # P H': position variance, covariance
    innovation = xyah - state[POSITION]
    gain = spread / variance
    mean = state[MEAN].reshape(spread.shape)
    mean += gain * innovation
    velocity_variance = state[VELOCITY_VARIANCE]
    velocity_variance -= gain[1] * spread[1]
    spread -= gain[0] * spread


def gating_matrix(state: State, variance: State, xyah: State) -> State:
    """Squared Mahalanobis distance of every measurement to every track.

    Args:
        state: `(20, M)` predicted states.
        variance: `(4, M)` `innovation_variance` of these states.
        xyah: `(4, N)` measurements.

    Returns:
        `(M, N)` distances; a pair is plausible below `GATE`.
    """
    # sum (z - m)^2 / S expanded into one matrix product: [1/S, m/S, sum m^2/S] . [z^2, -2 z, 1]
    position = state[POSITION]
    left = np.empty((9, position.shape[1]))
    np.divide(1.0, variance, out=left[:4])
    np.multiply(position, left[:4], out=left[4:8])
    np.add.reduce(position * left[4:8], axis=0, out=left[8])
    right = np.empty((9, xyah.shape[1]))
    np.multiply(xyah, xyah, out=right[:4])
    np.multiply(xyah, -2.0, out=right[4:8])
    right[8] = 1.0
    distance: State = left.T @ right
    return distance


def to_tlbr(state: State) -> State:
    """Boxes at the states' positions, `(4, M)` corners in pixels."""
    size = np.empty((2, state.shape[1]))  # half of it
    np.multiply(state[3], 0.5, out=size[1])
    np.multiply(state[2], size[1], out=size[0])
    tlbr = np.empty((4, state.shape[1]))
    np.subtract(state[:2], size, out=tlbr[:2])
    np.add(state[:2], size, out=tlbr[2:])
    return tlbr

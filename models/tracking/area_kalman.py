"""SORT's constant-velocity filter: boxes as centre, area and aspect, noise in pixels.

Bewley et al. 2016, section 3.2: the state is (u, v, s, r, u', v', s') with centre u, v in pixels,
area s in square pixels and aspect r = width / height, which has no velocity. Noise is constant, as
in the authors' release: Q = diag(1, 1, 1, 1, .01, .01, .0001), R = diag(1, 1, 10, 10), and a new
track's P is 10, or 10,000 for velocities. Coordinates are independent, so the layout `(20, M)` is
that of `kalman`, and `kalman.correct` serves both filters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.tracking.kalman import (
    COVARIANCE,
    POSITION,
    POSITION_VARIANCE,
    STATE_ROWS,
    VELOCITY,
    VELOCITY_VARIANCE,
    State,
    correct,
    process_noise,
    scale_of,
)

__all__ = [
    "correct",
    "initiate",
    "innovation_variance",
    "measure",
    "move",
    "predict",
    "to_tlbr",
]

_POSITION_NOISE = np.ones((4, 1))
_VELOCITY_NOISE = np.array([[1e-2], [1e-2], [1e-4], [0.0]])
_MEASUREMENT_NOISE = np.array([[1.0], [1.0], [10.0], [10.0]])
_INITIAL_POSITION = 10.0
_INITIAL_VELOCITY = np.array([[1e4], [1e4], [1e4], [0.0]])
_LEAST_AREA = 1e-6


def measure(xyah: State) -> State:
    """Measurements `(4, N)` (centre, area, aspect) of boxes as `xyah`."""
    measured = xyah.copy()
    measured[2] = xyah[2] * xyah[3] * xyah[3]
    measured[3] = xyah[2]
    return measured


def initiate(measured: State) -> State:
    """State `(20, N)` of tracks that start at `(4, N)` measurements with velocity 0."""
    state = np.zeros((STATE_ROWS, measured.shape[1]))
    state[POSITION] = measured
    state[POSITION_VARIANCE] = _INITIAL_POSITION
    state[VELOCITY_VARIANCE] = _INITIAL_VELOCITY
    return state


def predict(state: State, dt: float = 1.0) -> None:
    """Move the states `dt` frames ahead, in place; an area that would become negative stays."""
    state[6] *= state[2] + dt * state[6] > 0
    covariance, velocity_variance = state[COVARIANCE], state[VELOCITY_VARIANCE]
    position_noise, velocity_noise = process_noise(dt)
    state[POSITION] += dt * state[VELOCITY]
    state[POSITION_VARIANCE] += 2 * dt * covariance + dt * dt * velocity_variance
    state[POSITION_VARIANCE] += dt * _POSITION_NOISE + position_noise * _VELOCITY_NOISE
    covariance += dt * velocity_variance + velocity_noise * _VELOCITY_NOISE
    velocity_variance += dt * _VELOCITY_NOISE


def move(state: State, motion: NDArray[np.float64]) -> None:
    """Move the states with the picture when the camera moves, in place; see `kalman.move`."""
    linear, scale = motion[:, :2], scale_of(motion)
    state[:2] = linear @ state[:2] + motion[:, 2:]
    state[4:6] = linear @ state[4:6]
    state[[2, 6]] *= scale**2
    for block in (POSITION_VARIANCE, COVARIANCE, VELOCITY_VARIANCE):
        state[block][:2] *= scale**2
        state[block][2] *= scale**4


def innovation_variance(state: State) -> State:
    """Diagonal of S = H P H' + R for every track, `(4, M)`."""
    variance: State = state[POSITION_VARIANCE] + _MEASUREMENT_NOISE
    return variance


def to_tlbr(state: State) -> State:
    """Boxes at the states' positions, `(4, M)` corners in pixels."""
    area, aspect = np.maximum(state[2], _LEAST_AREA), np.maximum(state[3], _LEAST_AREA)
    width = np.sqrt(area * aspect)
    half = np.stack([width, area / width]) * 0.5
    return np.concatenate([state[:2] - half, state[:2] + half])

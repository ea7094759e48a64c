"""Motion without a filter: a track goes on at the mean velocity of its last observations.

Yang et al. 2023 (C-BIoU): the predicted box of a track is its last observed box, moved by the mean
of the last changes from observation to observation. A measurement replaces the box; nothing is
smoothed, and nothing has a variance. The layout is that of `kalman`, `(20, M)` float64: box and
mean velocity per frame, each as centre x, centre y, width and height in pixels; the velocities
before the last one, newest first; frames since the last observation; number of known velocities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.tracking.kalman import POSITION, STATE_ROWS, VELOCITY, State, scale_of

MEMORY = 3  # velocities that take part in the mean; the state holds all but the newest

_NEWER, _OLDER = slice(8, 12), slice(12, 16)
_ELAPSED, _KNOWN = 16, 17
_LEAST_SIDE = 1e-3  # pixels


def measure(xyah: State) -> State:
    """Measurements `(4, N)` (centre, width, height) of boxes as `xyah`."""
    measured = xyah.copy()
    measured[2] *= xyah[3]
    return measured


def initiate(measured: State) -> State:
    """State `(20, N)` of tracks that start at `(4, N)` measurements with velocity 0."""
    state = np.zeros((STATE_ROWS, measured.shape[1]))
    state[POSITION] = measured
    return state


def predict(state: State, dt: float = 1.0) -> None:
    """Move the boxes `dt` frames ahead, in place."""
    state[POSITION] += dt * state[VELOCITY]
    state[_ELAPSED] += dt


def move(state: State, motion: NDArray[np.float64]) -> None:
    """Move the states with the picture when the camera moves, in place; see `kalman.move`."""
    linear, scale = motion[:, :2], scale_of(motion)
    state[:2] = linear @ state[:2] + motion[:, 2:]
    state[2:4] *= scale
    for block in (VELOCITY, _NEWER, _OLDER):
        velocity = state[block]
        velocity[:2] = linear @ velocity[:2]
        velocity[2:] *= scale


def correct(state: State, measured: State, variance: State) -> None:
    """Replace each box by its measurement and renew the mean velocity, in place.

    Args:
        state: `(20, M)` predicted states, at least one step after their last observation.
        measured: `(4, M)` measurements.
        variance: Not used.
    """
    del variance
    # the box has moved at a constant velocity since the last observation
    newest = state[VELOCITY] + (measured - state[POSITION]) / state[_ELAPSED]
    known = np.minimum(state[_KNOWN] + 1, MEMORY)
    total = newest + np.where(known > 1, state[_NEWER], 0.0)
    total += np.where(known > 2, state[_OLDER], 0.0)
    state[_OLDER] = state[_NEWER]
    state[_NEWER] = newest
    state[VELOCITY] = total / known
    state[POSITION] = measured
    state[_ELAPSED], state[_KNOWN] = 0.0, known


def to_tlbr(state: State) -> State:
    """Boxes at the states' positions, `(4, M)` corners in pixels; sides are above 0."""
    half = 0.5 * np.maximum(state[2:4], _LEAST_SIDE)
    return np.concatenate([state[:2] - half, state[:2] + half])


def last_observed(state: State) -> tuple[State, State]:
    """`(4, M)` boxes of the last observations (as `measure` gives them), and `(M,)` frames since.

    They have moved with the picture, as the tracks have.
    """
    return state[POSITION] - state[_ELAPSED] * state[VELOCITY], state[_ELAPSED]

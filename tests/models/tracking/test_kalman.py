"""The closed-form filter of M tracks against filterpy's 8x8 filter."""

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter

from jde_ray.models.tracking import area_kalman, kalman
from jde_ray.models.tracking.baseline import build_filter, measurement_noise, predict_filter


def covariance_of(state, column):
    """8x8 covariance of one track, from its five blocks."""
    full = np.zeros((8, 8))
    for axis in range(4):
        full[axis, axis] = state[8 + axis, column]
        full[axis, 4 + axis] = full[4 + axis, axis] = state[12 + axis, column]
        full[4 + axis, 4 + axis] = state[16 + axis, column]
    return full


def random_boxes(rng, count):
    return np.stack(
        [
            rng.uniform(0, 2000, count),
            rng.uniform(0, 1000, count),
            rng.uniform(0.2, 0.8, count),
            rng.uniform(20, 400, count),
        ]
    )


def predict_filter_by(oracle, dt):
    """Filterpy with the transition and the noise of `dt` frames, as full matrices."""
    height = oracle.x[3, 0]
    position = np.array([height / 20, height / 20, 1e-2, height / 20]) ** 2
    velocity = np.array([height / 160, height / 160, 1e-5, height / 160]) ** 2
    in_position, in_velocity = kalman.process_noise(dt)
    noise = np.block(
        [
            [np.diag(dt * position + in_position * velocity), np.diag(in_velocity * velocity)],
            [np.diag(in_velocity * velocity), np.diag(dt * velocity)],
        ]
    )
    oracle.predict(F=np.eye(8) + dt * np.eye(8, k=4), Q=noise)


def assert_equal_to(state, oracles):
    for column, oracle in enumerate(oracles):
        np.testing.assert_allclose(state[:8, column], oracle.x[:, 0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(covariance_of(state, column), oracle.P, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("varying", [False, True], ids=["dt 1", "varying dt"])
def test_three_hundred_steps_equal_filterpy(varying):
    rng = np.random.default_rng(3)
    count = 12
    truth = random_boxes(rng, count)
    state = kalman.initiate(truth)
    oracles = [build_filter(truth[:, column]) for column in range(count)]
    for _ in range(300):
        dt = float(rng.choice([0.2, 0.5, 1.0, 1.7, 2.0, 7.0])) if varying else 1.0
        kalman.predict(state, dt)
        for oracle in oracles:
            if varying:
                predict_filter_by(oracle, dt)
            else:
                predict_filter(oracle)
        truth = truth + rng.normal(0, 1, truth.shape) * np.array([[5], [5], [0.001], [0.5]])
        seen = np.flatnonzero(rng.random(count) < 0.7)
        part = state[:, seen].copy()
        kalman.correct(part, truth[:, seen], kalman.innovation_variance(part))
        state[:, seen] = part
        for column in seen:
            noise = measurement_noise(oracles[column].x[3, 0])
            oracles[column].update(truth[:, [column]], R=noise)
        assert_equal_to(state, oracles)


def test_gating_equals_the_solved_mahalanobis_distance():
    rng = np.random.default_rng(4)
    state = kalman.initiate(random_boxes(rng, 20))
    kalman.predict(state)
    measured = random_boxes(rng, 30)
    measured[:, :20] = state[:4] + rng.normal(0, 1, (4, 20)) * np.array([[9], [9], [0.05], [5]])
    gate = kalman.gating_matrix(state, kalman.innovation_variance(state), measured)
    for column in range(20):
        covariance = covariance_of(state, column)[:4, :4] + measurement_noise(state[3, column])
        offset = measured - state[:4, [column]]
        want = np.einsum("ij,ij->j", offset, np.linalg.solve(covariance, offset))
        np.testing.assert_allclose(gate[column], want, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("steps", [2, 3, 10])
def test_a_step_of_several_frames_equals_as_many_single_steps(steps):
    """With the height standing still, so that the noise does."""
    once = kalman.initiate(random_boxes(np.random.default_rng(5), 8))
    once[4:7] = 3.0
    many = once.copy()
    kalman.predict(once, float(steps))
    for _ in range(steps):
        kalman.predict(many)
    np.testing.assert_allclose(once, many, rtol=1e-12, atol=1e-12)


def test_a_step_of_one_frame_by_the_general_formula_is_the_plain_step():
    state = kalman.initiate(random_boxes(np.random.default_rng(6), 8))
    general = state.copy()
    kalman.predict(state)
    kalman.predict(general, 1.0 + 1e-15)
    np.testing.assert_allclose(general, state, rtol=1e-12)


@pytest.mark.parametrize("dt", [0.06, 0.3, 0.5, 0.9])
def test_the_noise_of_part_of_a_frame_is_a_covariance(dt):
    state = kalman.initiate(random_boxes(np.random.default_rng(7), 5))
    state[8:] = 0
    kalman.predict(state, dt)
    for column in range(5):
        assert np.linalg.eigvalsh(covariance_of(state, column)).min() > 0


def test_boxes_come_back_as_corners():
    state = kalman.initiate(np.array([[50.0], [40.0], [0.5], [20.0]]))
    np.testing.assert_allclose(kalman.to_tlbr(state)[:, 0], [45, 30, 55, 50])


def test_filterpy_is_the_one_the_oracle_uses():
    assert isinstance(build_filter(np.array([1.0, 2.0, 0.5, 10.0])), KalmanFilter)


MOTIONS = {"height": kalman, "area": area_kalman}
TURN = np.array([[0.998, -0.06, 12.0], [0.06, 0.998, -7.0]]) * [[1.1, 1.1, 1.0]]


@pytest.mark.parametrize("name", MOTIONS)
def test_states_move_with_the_picture_and_back(name):
    motion, rng = MOTIONS[name], np.random.default_rng(8)
    state = motion.initiate(motion.measure(random_boxes(rng, 9)))
    state[4:8] = rng.normal(0, 3, (4, 9))
    motion.predict(state, 2.0)
    moved = state.copy()
    motion.move(moved, TURN)
    scale = kalman.scale_of(TURN)
    before, after = motion.to_tlbr(state), motion.to_tlbr(moved)
    centres = (before[:2] + before[2:]) / 2
    np.testing.assert_allclose((after[:2] + after[2:]) / 2, TURN[:, :2] @ centres + TURN[:, 2:])
    np.testing.assert_allclose(after[2:] - after[:2], (before[2:] - before[:2]) * scale)
    assert not np.allclose(moved[4:6], state[4:6])
    full = np.vstack([TURN, [0, 0, 1]])
    motion.move(moved, np.linalg.inv(full)[:2])
    np.testing.assert_allclose(moved, state, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", MOTIONS)
def test_to_move_and_to_predict_is_to_predict_in_the_moved_picture(name):
    motion, rng = MOTIONS[name], np.random.default_rng(9)
    boxes = random_boxes(rng, 9)
    speed = rng.normal(0, 3, (2, 9))
    here = motion.initiate(motion.measure(boxes))
    here[4:6] = speed
    motion.move(here, TURN)
    motion.predict(here)
    there = boxes[:2] + speed
    np.testing.assert_allclose(here[:2], TURN[:, :2] @ there + TURN[:, 2:])


def test_a_moved_filter_is_that_of_full_matrices():
    state = kalman.initiate(random_boxes(np.random.default_rng(1), 3))
    kalman.predict(state, 1.5)
    scale = kalman.scale_of(TURN)
    matrix = np.zeros((8, 8))
    for first in (0, 4):
        matrix[first : first + 2, first : first + 2] = TURN[:, :2]
        matrix[first + 2, first + 2], matrix[first + 3, first + 3] = 1.0, scale
    wanted = [matrix @ covariance_of(state, column) @ matrix.T for column in range(3)]
    kalman.move(state, TURN)
    for column in range(3):
        np.testing.assert_allclose(covariance_of(state, column), wanted[column], atol=1e-9)

"""The calibration: its limit separates people whatever the network's distances are."""

import numpy as np
import pytest

from jde_ray.models.tracking.calibration import DIFFERENT_BELOW, PRIOR_LIMIT, Calibration
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.matching import embedding_distance


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def frame_of(vectors, *, apart=100.0):
    """People side by side, with these embeddings."""
    left = apart * np.arange(len(vectors), dtype=float)
    boxes = np.stack([left, np.zeros_like(left), left + 50, np.full_like(left, 100)], axis=1)
    return build_frame(boxes, np.full(len(vectors), 0.9), vectors.astype(np.float32))


def learned(people, frames, rng, noise=0.1):
    calibration = Calibration(people.shape[1])
    for _ in range(frames):
        seen = unit(people + noise * rng.normal(size=people.shape))
        frame = frame_of(seen)
        calibration.learn(frame, 0.5)
    return calibration


def all_distances(calibration, vectors):
    first, second = np.triu_indices(len(vectors), 1)
    return calibration.distance(vectors, vectors, first, second)


def test_nothing_known_is_the_prior():
    calibration = Calibration(8)
    assert calibration.limit == PRIOR_LIMIT
    assert not calibration.mean.any()
    calibration.learn(frame_of(np.eye(8)[:1]), 0.5)
    assert calibration.limit == PRIOR_LIMIT  # one person has nobody to differ from


@pytest.mark.parametrize("shared", [0.0, 2.0], ids=["centred", "large mean"])
def test_the_limit_is_the_quantile_of_the_distances_of_different_people(shared):
    rng = np.random.default_rng(3)
    people = unit(unit(rng.normal(size=(12, 64))) + shared * unit(rng.normal(size=64)))
    calibration = learned(people, 400, rng, noise=0.01)
    seen = unit(people + 0.01 * rng.normal(size=people.shape)).astype(np.float32)
    expected = np.quantile(all_distances(calibration, seen), DIFFERENT_BELOW)
    assert calibration.limit == pytest.approx(expected, abs=0.1)


def test_a_mean_that_all_vectors_share_does_not_move_the_limit():
    """OSNet's vectors lie close together, a joint network's do not: both get the same limit."""
    rng = np.random.default_rng(4)
    base, shared = unit(rng.normal(size=(12, 64))), unit(rng.normal(size=64))
    limits = [
        learned(unit(base + share * shared), 400, np.random.default_rng(5), noise=0.01).limit
        for share in (0.0, 1.5)
    ]
    raw = np.sqrt(2 - 2 * np.triu(unit(base + 1.5 * shared) @ unit(base + 1.5 * shared).T, 1))
    assert limits[0] == pytest.approx(limits[1], abs=0.15)
    assert np.quantile(raw[np.triu_indices(12, 1)], DIFFERENT_BELOW) < limits[1] - 0.3


def test_distances_are_those_of_the_centred_vectors():
    rng = np.random.default_rng(6)
    calibration = learned(unit(rng.normal(size=(6, 16)) + 1), 50, rng)
    tracks, found = (unit(rng.normal(size=(n, 16)) + 1).astype(np.float32) for n in (5, 7))
    rows, columns = np.divmod(np.arange(35), 7)
    got = calibration.distance(tracks, found, rows, columns)
    centred = [unit(vectors - calibration.mean) for vectors in (tracks, found)]
    np.testing.assert_allclose(got, embedding_distance(*centred, rows, columns), atol=2e-3)


def test_boxes_on_one_another_may_be_one_person_and_do_not_count():
    calibration, rng = Calibration(8), np.random.default_rng(7)
    person = unit(rng.normal(size=8))
    for _ in range(200):
        frame = frame_of(np.stack([person, person]), apart=10.0)
        calibration.learn(frame, 0.5)
    assert calibration.limit == PRIOR_LIMIT


def test_it_goes_on_from_its_state_bit_for_bit():
    rng = np.random.default_rng(8)
    people = unit(rng.normal(size=(10, 16)))
    whole, parts = Calibration(16), Calibration(16)
    for number in range(120):
        frame = frame_of(unit(people + 0.2 * rng.normal(size=people.shape)))
        whole.learn(frame, 0.5)
        parts.learn(frame, 0.5)
        if number == 50:
            resumed = Calibration(16)
            resumed.set_state(parts.get_state())
            parts = resumed
        assert parts.limit == whole.limit
        assert parts.mean.tobytes() == whole.mean.tobytes()
    with pytest.raises(ValueError, match="calibration: got shape"):
        Calibration(8).set_state(whole.get_state())


def test_old_scenes_fade():
    """A camera that is moved to another place: the limit follows."""
    rng = np.random.default_rng(9)
    alike = unit(0.3 * unit(rng.normal(size=(12, 32))) + unit(rng.normal(size=32)))
    calibration = Calibration(32)
    for people, frames in ((alike, 300), (unit(rng.normal(size=(12, 32))), 9000)):
        for _ in range(frames):
            calibration.learn(frame_of(people), 0.5)
    fresh = learned(people, 600, rng, noise=0.0)
    assert calibration.limit == pytest.approx(fresh.limit, abs=0.1)

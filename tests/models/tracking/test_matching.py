"""Assignment over gated pairs against lap on the whole matrix, and the costs of the stages."""

import lap
import numpy as np
import pytest

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.tracking.matching import assign, embedding_distance, overlap_matrix, pairs_below


def gain_of_lap(cost, limit):
    """Value of the best partial matching: lap, with forbidden pairs at infinity."""
    _, columns, _ = lap.lapjv(cost, extend_cost=True, cost_limit=limit)
    return sum(limit - cost[row, column] for row, column in enumerate(columns) if column >= 0)


def gated_costs(rng):
    """A random cost matrix like a gated one: few pairs, some rows and columns contested."""
    shape = rng.integers(1, 25, 2)
    cost = rng.random(shape) * rng.choice([0.5, 1.0, 2.0])
    cost[rng.random(shape) > rng.choice([0.05, 0.15, 0.5, 1.0])] = np.inf
    return cost


def test_thousands_of_gated_matrices_are_solved_as_lap_solves_them():
    rng = np.random.default_rng(8)
    for _ in range(4000):
        cost, limit = gated_costs(rng), float(rng.choice([0.3, 0.5, 0.7, 1.1]))
        rows, columns, values = pairs_below(cost, limit)
        chosen = assign(rows, columns, values, limit)
        assert len(set(rows[chosen])) == len(chosen) == len(set(columns[chosen]))
        assert np.sum(limit - values[chosen]) == pytest.approx(gain_of_lap(cost, limit), abs=1e-9)


def test_costs_without_ties_give_the_very_pairs_of_lap():
    rng = np.random.default_rng(9)
    for _ in range(500):
        cost = gated_costs(rng)
        rows, columns, values = pairs_below(cost, 0.7)
        chosen = assign(rows, columns, values, 0.7)
        _, want, _ = lap.lapjv(cost, extend_cost=True, cost_limit=0.7)
        got = np.full(len(cost), -1)
        got[rows[chosen]] = columns[chosen]
        np.testing.assert_array_equal(got, want)


def test_an_expensive_pair_is_left_where_two_cheap_ones_pay_more():
    """Track 0 could have detection 0 for .1, but then track 1 would have none."""
    rows, columns = np.array([0, 0, 1]), np.array([0, 1, 0])
    costs = np.array([0.1, 0.3, 0.2])
    chosen = assign(rows, columns, costs, 0.7)
    assert list(zip(rows[chosen], columns[chosen], strict=True)) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.7])
def test_a_cost_that_is_no_number_below_the_limit_never_reaches_the_solver(bad):
    with pytest.raises(ValueError, match="below the limit"):
        assign(np.array([0, 1]), np.array([0, 1]), np.array([0.1, bad]), 0.7)


def test_no_pairs_give_no_matches():
    none = np.zeros(0, int)
    assert len(assign(none, none, np.zeros(0), 0.7)) == 0


@pytest.mark.parametrize("share", [0.02, 0.6], ids=["gathered", "one product"])
def test_embedding_distance_is_euclidean(share):
    rng = np.random.default_rng(10)
    tracks, detections = rng.normal(size=(2, 40, 32)).astype(np.float32)
    tracks /= np.linalg.norm(tracks, axis=1, keepdims=True)
    detections /= np.linalg.norm(detections, axis=1, keepdims=True)
    rows, columns = np.nonzero(rng.random((40, 40)) < share)
    got = embedding_distance(tracks, detections, rows, columns)
    want = np.linalg.norm(tracks[rows] - detections[columns], axis=1)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_overlap_in_columns_equals_overlap_in_rows(pixel):
    rng = np.random.default_rng(11)
    corners = rng.uniform(0, 50, (2, 30, 2))
    a, b = (np.concatenate([low, low + rng.uniform(5, 40, (30, 2))], 1) for low in corners)
    np.testing.assert_allclose(
        overlap_matrix(a.T, b.T, pixel), iou_matrix(a, b, pixel=pixel), rtol=1e-12
    )


def test_a_box_without_area_overlaps_nothing():
    flipped = np.array([[10.0], [10.0], [5.0], [5.0]])
    assert overlap_matrix(flipped, np.array([[0.0], [0.0], [20.0], [20.0]]), 0.0)[0, 0] == 0
    assert overlap_matrix(flipped, flipped, 0.0)[0, 0] == 0

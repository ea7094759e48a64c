"""Power iteration over hypergraphs: derivatives, an objective that never falls, the plain case."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jde_ray.models.tracking.hypergraph import Graph, neighbours, solve

NOTHING = np.zeros(0)


def plain(own, dummy=0.1):
    """A graph of every pair, without edges."""
    rows, columns = np.indices(own.shape).reshape(2, -1)
    pairs, triples = np.zeros((0, 2), np.intp), np.zeros((0, 3), np.intp)
    return Graph(own.shape, rows, columns, own.ravel(), pairs, NOTHING, triples, NOTHING, dummy)


def random(seed, shape=(4, 5)):
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape).reshape(2, -1)
    count = len(rows)
    return Graph(
        shape,
        rows,
        columns,
        rng.uniform(0.01, 1, count),
        rng.integers(0, count, (30, 2)),
        rng.uniform(0, 1, 30),
        rng.integers(0, count, (20, 3)),
        rng.uniform(0, 1, 20),
        0.1,
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_the_objective(seed):
    graph = random(seed)
    # candidates of an edge are different tracks in use, so that no share is squared
    pairs = graph.pairs[graph.pairs[:, 0] != graph.pairs[:, 1]]
    triples = graph.triples[[len(set(t)) == 3 for t in graph.triples.tolist()]]
    graph = Graph(
        graph.shape, graph.rows, graph.columns, graph.own,
        pairs, graph.pair_affinity[: len(pairs)], triples, graph.triple_affinity[: len(triples)],
        graph.dummy,
    )  # fmt: skip
    share = np.random.default_rng(seed).uniform(0.1, 1, (5, 6))
    slope = graph.gradient(share).reshape(4, 5)
    for row, column in ((0, 0), (3, 4), (2, 1)):
        moved = share.copy()
        moved[row, column] += 1e-6
        change = (graph.objective(moved) - graph.objective(share)) / 1e-6
        assert slope[row, column] == pytest.approx(change, abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_the_objective_never_falls_and_shares_sum_to_1(seed):
    share, values = solve(random(seed))
    assert (np.diff(values) >= 0).all()
    assert (share >= 0).all()
    np.testing.assert_allclose(share[:, :-1].sum(axis=0), 1)
    np.testing.assert_allclose(share[:-1].sum(axis=1), 1, atol=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_without_edges_it_is_the_hungarian_method_where_pairs_are_clear(seed):
    rng = np.random.default_rng(seed)
    own = rng.uniform(0.01, 0.15, (6, 6))
    order = rng.permutation(6)
    own[np.arange(6), order] = rng.uniform(0.7, 1.0, 6)
    share, _ = solve(plain(own))
    assert linear_sum_assignment(-own)[1].tolist() == order.tolist()
    assert share[:-1, :-1].argmax(axis=1).tolist() == order.tolist()
    assert (share[np.arange(6), order] > 0.5).all()


def test_one_without_a_partner_goes_to_the_dummy():
    share, _ = solve(plain(np.array([[0.9, 0.001], [0.001, 0.05]])))
    assert share[0, 0] > 0.9
    assert share[1, 2] > 0.9
    assert share[2, 1] > 0.9


def test_no_tracks_and_no_detections_are_no_reason_to_stop():
    for shape in ((0, 0), (0, 3), (3, 0)):
        share, _ = solve(plain(np.zeros(shape)))
        assert share.shape == (shape[0] + 1, shape[1] + 1)


def test_the_nearest_come_first():
    points = np.array([[0.0, 10, 11, 30], [0, 0, 0, 0]])
    assert neighbours(points, 2) == [[1, 2], [2, 0], [1, 0], [2, 1]]
    assert neighbours(points[:, :1], 3) == [[]]


def test_lengths_that_disagree_are_refused():
    graph = random(0)
    with pytest.raises(ValueError, match="pairs: got"):
        Graph(graph.shape, graph.rows, graph.columns, graph.own, graph.pairs, NOTHING,
              graph.triples, graph.triple_affinity, 0.1)  # fmt: skip

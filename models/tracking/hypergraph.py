"""Matching tracks and detections as hypergraphs, by power iteration (after Zhou et al., ICPR 2018).

A candidate is a track with a detection. Its own affinity says how well the two agree; an edge of
two candidates says how well two neighbouring tracks keep their relative place, a triangle of three
how well their angles stay. The unknown is a matrix X of shares whose rows and columns sum to 1,
with a dummy track and a dummy detection for those who have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.matching import Indices

ROUNDS = 20
_CHANGE = 1e-4  # largest change of a share at which the iteration ends
_SINKHORN = 10  # times that rows and columns are normalised in a round


@dataclass(frozen=True)
class Graph:
    """Candidates and what joins them.

    Attributes:
        shape: Numbers M of tracks and N of detections.
        rows: `(P,)` track of each candidate.
        columns: `(P,)` detection of each candidate.
        own: `(P,)` affinities of the candidates, at least 0.
        pairs: `(E, 2)` candidates of each edge.
        pair_affinity: `(E,)` at least 0.
        triples: `(T, 3)` candidates of each triangle.
        triple_affinity: `(T,)` at least 0.
        dummy: Affinity that a pair without edges must exceed, above 0.

    Raises:
        ValueError: If lengths disagree.
    """

    shape: tuple[int, int]
    rows: Indices
    columns: Indices
    own: FloatArray
    pairs: Indices
    pair_affinity: FloatArray
    triples: Indices
    triple_affinity: FloatArray
    dummy: float

    def __post_init__(self) -> None:
        lengths = (len(self.rows), len(self.columns), len(self.own))
        if len(set(lengths)) > 1:
            raise ValueError(f"candidates: got {lengths}, expected equal lengths")
        for name in ("pair", "triple"):
            edges, affinity = getattr(self, f"{name}s"), getattr(self, f"{name}_affinity")
            if edges.shape != (len(affinity), 2 if name == "pair" else 3):
                raise ValueError(f"{name}s: got {edges.shape} for {len(affinity)} affinities")

    def objective(self, share: FloatArray) -> float:
        """The sum that the matching maximises, of `(M + 1, N + 1)` shares.

        A track and a detection that are not matched with one another have half the dummy's affinity
        each.
        """
        x = share[self.rows, self.columns]
        value = self.own @ x
        value += self.pair_affinity @ x[self.pairs].prod(axis=1)
        value += self.triple_affinity @ x[self.triples].prod(axis=1)
        alone = share[-1, :-1].sum() + share[:-1, -1].sum()
        return float(value + self.dummy / 2 * alone)

    def gradient(self, share: FloatArray) -> FloatArray:
        """`(P,)` derivatives of the objective by the shares of the candidates."""
        x = share[self.rows, self.columns]
        slope = self.own.copy()
        for edges, affinity in (
            (self.pairs, self.pair_affinity),
            (self.triples, self.triple_affinity),
        ):
            for corner in range(edges.shape[1]):
                others = np.delete(edges, corner, axis=1)
                weights = affinity * x[others].prod(axis=1)
                slope += np.bincount(edges[:, corner], weights, minlength=len(slope))
        return slope

    def spread(self, candidates: FloatArray) -> FloatArray:
        """`(M + 1, N + 1)` with these values of candidates, and those of the dummies.

        Normalising rows and columns weighs a pair against the product of its two dummies, so that
        each of these has the root of the affinity.
        """
        whole = np.zeros((self.shape[0] + 1, self.shape[1] + 1))
        whole[self.rows, self.columns] = candidates
        whole[-1, :-1] = whole[:-1, -1] = np.sqrt(self.dummy)
        return whole


def solve(graph: Graph) -> tuple[FloatArray, list[float]]:
    """The shares of the power iteration, and the objective of every round, which never falls.

    Each round multiplies the shares by the gradient and normalises rows and columns in turn. A
    round that would lower the objective is not taken, and ends the iteration.

    Returns:
        `(M + 1, N + 1)` shares, of which the last row and column are those of the dummies, and the
        objectives from the start on.
    """
    share = _normalised(graph.spread(graph.own))
    values = [graph.objective(share)]
    for _ in range(ROUNDS):
        moved = _normalised(share * graph.spread(graph.gradient(share)))
        value = graph.objective(moved)
        if value < values[-1]:
            break
        change = float(np.abs(moved - share).max(initial=0.0))
        share = moved
        values.append(value)
        if change < _CHANGE:
            break
    return share, values


def _normalised(share: FloatArray) -> FloatArray:
    """Shares whose columns of detections sum to 1, and rows of tracks nearly so."""
    share = share.copy()
    for _ in range(_SINKHORN):
        share[:-1] /= np.maximum(share[:-1].sum(axis=1, keepdims=True), 1e-12)
        share[:, :-1] /= np.maximum(share[:, :-1].sum(axis=0), 1e-12)
    return share


def neighbours(points: FloatArray, number: int) -> list[list[int]]:
    """Numbers of the nearest other points of each of `(2, M)` points, the nearest first."""
    apart = np.hypot(*(points[:, :, None] - points[:, None, :]))
    np.fill_diagonal(apart, np.inf)
    nearest: NDArray[np.intp] = apart.argsort(axis=1, kind="stable")
    return [row[: min(number, len(row) - 1)].tolist() for row in nearest]

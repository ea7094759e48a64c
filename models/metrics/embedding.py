"""How well embeddings tell people apart: true positive rate at given false accept rates.

Every pair of embeddings is compared once (1:N, as in the paper): pairs of one person should be
accepted, all others refused. Pairs are counted in fine bins of similarity, block by block, so
memory does not grow with the number of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray

FALSE_ACCEPT_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BLOCK_ROWS = 2048
_BINS = 1 << 21  # over similarities in [-1, 1]: 1e-6 wide, the rounding of a float32 product


@dataclass(frozen=True)
class EmbeddingScores:
    """How well embeddings tell people apart.

    Attributes:
        false_accept_rates: `(k,)` shares of pairs of different people that are accepted.
        true_positive_rates: `(k,)` shares of pairs of one person that are accepted at those rates,
            interpolated linearly on the ROC curve; NaN without pairs of both kinds.
        num_embeddings: Vectors compared.
        num_identities: People they belong to.
        num_positive_pairs: Pairs of one person.
        num_negative_pairs: Pairs of different people. A rate below one over this number rests on
            the curve's first step alone.
    """

    false_accept_rates: FloatArray
    true_positive_rates: FloatArray
    num_embeddings: int
    num_identities: int
    num_positive_pairs: int
    num_negative_pairs: int

    def at(self, false_accept_rate: float) -> float:
        """TPR at one of `false_accept_rates`.

        Raises:
            ValueError: If it is not one of them.
        """
        found = np.flatnonzero(np.isclose(self.false_accept_rates, false_accept_rate, atol=0))
        if not len(found):
            accepted = ", ".join(f"{rate:g}" for rate in self.false_accept_rates)
            raise ValueError(f"FAR: got {false_accept_rate:g}, expected {accepted}")
        return float(self.true_positive_rates[found[0]])


def score_embeddings(
    embeddings: FloatArray,
    identities: IntArray,
    *,
    false_accept_rates: tuple[float, ...] = FALSE_ACCEPT_RATES,
    block_rows: int = BLOCK_ROWS,
) -> EmbeddingScores:
    """Compare every pair of embeddings by cosine similarity, and read the ROC curve at some rates.

    Args:
        embeddings: `(n, D)` vectors of any length; float16 takes half the memory.
        identities: `(n,)` unique over all sequences; negative ones are unknown and left out.
        false_accept_rates: Rates at which the curve is read.
        block_rows: Side of the blocks of pairs that are compared at once.

    Raises:
        ValueError: If the shapes disagree or a number is not finite.
    """
    if embeddings.ndim != 2 or identities.shape != embeddings.shape[:1]:
        got = (embeddings.shape, identities.shape)
        raise ValueError(f"embeddings, identities: got shapes {got}, expected (n, D), (n,)")
    # sort by person: only blocks near the diagonal can hold pairs of one person
    order = np.argsort(identities, kind="stable")
    order = order[identities[order] >= 0]
    known = identities[order]
    positive, negative = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    for start in range(0, len(order), block_rows):
        rows = unit_rows(embeddings[order[start : start + block_rows]])
        for other in range(start, len(order), block_rows):
            same = other == start
            columns = rows if same else unit_rows(embeddings[order[other : other + block_rows]])
            people = known[start : start + block_rows], known[other : other + block_rows]
            _count(rows @ columns.T, people, same, (positive, negative))
    rates = np.asarray(false_accept_rates, np.float64)
    return EmbeddingScores(
        false_accept_rates=rates,
        true_positive_rates=_read_curve(positive, negative, rates),
        num_embeddings=len(order),
        num_identities=len(np.unique(known)),
        num_positive_pairs=int(positive.sum()),
        num_negative_pairs=int(negative.sum()),
    )


def unit_rows(rows: FloatArray) -> FloatArray:
    """Rows as float32 of length 1.

    Raises:
        ValueError: If a number is not finite.
    """
    rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("embeddings: got NaN or Inf, expected finite numbers")
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = rows / np.maximum(length, np.float32(1e-12))
    return unit


def _count(
    similarity: FloatArray,
    people: tuple[IntArray, IntArray],
    same: bool,
    counts: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """Add the pairs of a block to the bins (pairs of one person, pairs of different people)."""
    similarity += 1.0
    similarity *= _BINS / 2
    np.clip(similarity, 0, _BINS - 1, out=similarity)
    bins = similarity.astype(np.int32)
    first, second = people
    if same:
        row, column = np.triu_indices(len(first), 1)
        bins, one = bins[row, column], first[row] == first[column]
    elif first[-1] < second[0]:  # no person is in both
        counts[1][:] += np.bincount(bins.ravel(), minlength=_BINS)
        return
    else:
        one = first[:, None] == second[None, :]
    counts[0][:] += np.bincount(bins[one], minlength=_BINS)
    counts[1][:] += np.bincount(bins[~one], minlength=_BINS)


def _read_curve(
    positive: NDArray[np.int64], negative: NDArray[np.int64], rates: FloatArray
) -> FloatArray:
    """TPR at `rates`, interpolated linearly between the points of the curve."""
    if not positive.any() or not negative.any():
        return np.full(len(rates), np.nan)
    occupied = np.flatnonzero(positive + negative)[::-1]  # highest similarity first
    true_rate = np.cumsum(positive[occupied]) / positive.sum()
    false_rate = np.cumsum(negative[occupied]) / negative.sum()
    # where the curve is vertical, its highest point counts
    highest = np.append(np.diff(false_rate) > 0, True)
    x, y = false_rate[highest], true_rate[highest]
    if x[0] > 0:
        x, y = np.insert(x, 0, 0.0), np.insert(y, 0, 0.0)
    read: FloatArray = np.interp(rates, x, y)
    return read

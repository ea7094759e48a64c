"""Costs of (track, detection) pairs, and the assignment over the allowed pairs.

A stage lists only its candidate pairs: row (track), column (detection) and cost of every pair below
the stage's limit. Few pairs pass the gate, so most are alone in their row and column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray

Indices = NDArray[np.intp]
_NONE = np.zeros(0, np.intp)


def assign(rows: Indices, columns: Indices, costs: FloatArray, limit: float) -> Indices:
    """One-to-one partial matching that maximises the sum of (limit - cost) over its pairs.

    Args:
        rows: `(P,)` track of each candidate pair; pairs are unique.
        columns: `(P,)` detection of each candidate pair.
        costs: `(P,)` all below `limit`; pairs not listed are forbidden.
        limit: Cost of leaving a track unmatched.

    Returns:
        `(K,)` ascending indices of the matched pairs.

    Raises:
        ValueError: If a cost is not below the limit (or is NaN).
    """
    if not len(costs):
        return _NONE
    if not costs.max() < limit:
        raise ValueError(f"costs: got {costs.max()}, expected below the limit {limit}")
    crowd = _crowd(rows, columns)
    contested = (crowd > 1).nonzero()[0]
    if not len(contested):
        return np.arange(len(rows))
    chosen = _solve(rows[contested], columns[contested], costs[contested], limit)
    crowd[contested[chosen]] = 1
    matched: Indices = (crowd == 1).nonzero()[0]
    return matched


def _crowd(rows: Indices, columns: Indices) -> Indices:
    """`(P,)` 1 for pairs that are alone in their row and their column, more for the others."""
    crowd: Indices = np.bincount(rows)[rows]
    crowd *= np.bincount(columns)[columns]
    return crowd


def are_unique(rows: Indices, columns: Indices) -> bool:
    """Whether no two of P > 0 pairs share a row or a column."""
    count = len(rows)
    if np.count_nonzero(np.bincount(rows)) < count:
        return False
    return bool(np.count_nonzero(np.bincount(columns)) == count)


def uncontested(rows: Indices, columns: Indices) -> tuple[Indices, Indices]:
    """Of P > 0 pairs, those that are alone in their row and their column, and the others."""
    crowd = _crowd(rows, columns)
    return (crowd == 1).nonzero()[0], (crowd > 1).nonzero()[0]


def without(rows: Indices, columns: Indices, chosen: Indices) -> Indices:
    """Of P > 0 pairs, those that share no row and no column with the `chosen` ones."""
    free = np.ones(len(rows), np.bool_)
    if len(chosen):
        for labels in (rows, columns):
            taken = np.zeros(int(labels.max()) + 1, np.bool_)
            taken[labels[chosen]] = True
            free &= ~taken[labels]
    return free.nonzero()[0]


def _solve(rows: Indices, columns: Indices, costs: FloatArray, limit: float) -> Indices:
    """`assign` on a dense matrix of the rows and columns that occur; not sorted."""
    compact_rows, num_rows = _compact(rows)
    compact_columns, num_columns = _compact(columns)
    dense = np.full((num_rows, num_columns), limit)
    dense[compact_rows, compact_columns] = costs
    pair = np.full((num_rows, num_columns), -1)
    pair[compact_rows, compact_columns] = np.arange(len(rows))
    # a forbidden pair costs the limit, as much as no pair: same optimum as lap's cost_limit
    from scipy.optimize import linear_sum_assignment  # a third of a second, at every `--help`

    chosen: Indices = pair[linear_sum_assignment(dense)]
    return chosen[chosen >= 0]


def _compact(labels: Indices) -> tuple[Indices, int]:
    """Labels renumbered 0, 1, ... without gaps, and their number."""
    occurs = np.zeros(int(labels.max()) + 1, np.intp)
    occurs[labels] = 1
    number = occurs.cumsum()
    return number[labels] - 1, int(number[-1])


def pairs_below(matrix: FloatArray, limit: float) -> tuple[Indices, Indices, FloatArray]:
    """Row, column and value of the entries of an `(M, N)` matrix that are below `limit`."""
    flat = matrix.ravel()
    index = (flat < limit).nonzero()[0]
    rows, columns = np.divmod(index, matrix.shape[1])
    return rows, columns, flat[index]


def embedding_distance(
    tracks: FloatArray, detections: FloatArray, rows: Indices, columns: Indices
) -> FloatArray:
    """Euclidean distance between the embeddings of each pair (the original calls it cosine).

    Args:
        tracks: `(M, D)` float32, L2-normalised.
        detections: `(N, D)` float32, L2-normalised.
        rows: `(P,)` track of each pair.
        columns: `(P,)` detection of each pair.

    Returns:
        `(P,)` float32 distance in [0, 2]; 0 means the same direction.
    """
    return to_distance(pair_products(tracks, detections, rows, columns))


def pair_products(
    tracks: FloatArray, detections: FloatArray, rows: Indices, columns: Indices
) -> FloatArray:
    """`(P,)` float32 scalar products of the embeddings of each pair."""
    # one product over all pairs is cheaper than gathering the vectors of over a tenth of them
    if 10 * len(rows) > len(tracks) * len(detections):
        products: FloatArray = (tracks @ detections.T)[rows, columns]
    else:
        products = np.vecdot(tracks.take(rows, axis=0), detections.take(columns, axis=0))
    return products


def to_distance(cosine: FloatArray) -> FloatArray:
    """Euclidean distance of unit vectors with these cosines, which are overwritten."""
    cosine *= -2.0
    cosine += 2.0
    np.maximum(cosine, 0.0, out=cosine)
    distance: FloatArray = np.sqrt(cosine, out=cosine)
    return distance


def overlap_of_pairs(a: FloatArray, b: FloatArray) -> FloatArray:
    """`(P,)` intersection over union of boxes `(4, P)` with boxes `(4, P)`, one by one."""
    shared = np.minimum(a[2:], b[2:])
    shared -= np.maximum(a[:2], b[:2])
    np.maximum(shared, 0.0, out=shared)
    size_a, size_b = a[2:] - a[:2], b[2:] - b[:2]
    both: FloatArray = shared[0] * shared[1]
    union = size_a[0] * size_a[1] + size_b[0] * size_b[1] - both
    both /= np.maximum(union, 1e-9)  # a predicted box may have lost its area
    return both


def overlap_matrix(a: FloatArray, b: FloatArray, pixel: float) -> FloatArray:
    """Intersection over union of every pair, boxes in columns.

    Args:
        a: `(4, M)` corners.
        b: `(4, N)` corners.
        pixel: Added to widths and heights: 1 in the published mode (inclusive pixels), else 0.

    Returns:
        `(M, N)` in [0, 1].
    """
    overlap: FloatArray = np.minimum(a[2:, :, None], b[2:, None, :])
    overlap -= np.maximum(a[:2, :, None], b[:2, None, :])
    size_a, size_b = a[2:] - a[:2], b[2:] - b[:2]
    if pixel:
        overlap += pixel
        size_a += pixel
        size_b += pixel
    np.maximum(overlap, 0.0, out=overlap)
    shared: FloatArray = overlap[0] * overlap[1]
    union = (size_a[0] * size_a[1])[:, None] + size_b[0] * size_b[1]
    union -= shared
    np.maximum(union, 1e-9, out=union)  # a predicted box may have lost its area
    shared /= union
    return shared

"""How much two stretches of a video speak for one person, by their embeddings.

The scale is the video's own: stretches of one track show one person (mostly), people who are in
view together are different ones. A logistic regression between the two gives a log-likelihood
ratio, whatever network the embeddings come from and however fast a person's looks change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.glimpses import Glimpses, distance, unit

NEAR = 3  # glimpses beside a gap that are compared with those on its other side
_SAMPLES = 2500  # pairs of stretches of one track that the regression sees
_LONGEST = 40  # glimpses in a sampled stretch
_FEWEST = 50  # pairs of each kind; below, the coefficients stay as they are
_LEAST = -10.0  # where no pair lies between the two, the regression is steep
_PULL = 1e-4  # towards the usual coefficients, per pair
# of six sequences with the embeddings of the shipped network; only where a video has few pairs
_USUAL = np.array([4.7, -4.5, -2.5, -0.3, 1.0, -0.5])


@dataclass(frozen=True)
class AppearanceEvidence:
    """Log-likelihood ratio of two stretches showing one person or two.

    Attributes:
        weights: `(6,)` of 1, the distance near the gap, the distance of the whole stretches, and
            of each of these times the logarithm of the gap in seconds.
        most: Greatest ratio: log(n) of the n pairs of people that the video shows together. Their
            distances cannot tell what is rarer than 1 / n.
    """

    weights: FloatArray
    most: float

    def ratio(self, near: FloatArray, whole: FloatArray, gap_s: FloatArray) -> FloatArray:
        """`(n,)` natural logarithms; above 0 speaks for one person.

        Args:
            near: `(n,)` distances of the means of the glimpses next to the gap.
            whole: `(n,)` distances of the means of the whole stretches.
            gap_s: `(n,)` seconds between them.
        """
        result: FloatArray = np.clip(
            _features(near, whole, gap_s) @ self.weights, _LEAST, self.most
        )
        return result


def calibrate(glimpses: Glimpses, pieces: IntArray, frames_per_second: float) -> AppearanceEvidence:
    """Learn from a video what distances one person has, and what distances two.

    Args:
        glimpses: With embeddings.
        pieces: `(p, 2)` first glimpse of each stretch that shows one person, and the one after its
            last.
        frames_per_second: Rate of the video.
    """
    same, other = _sample(glimpses, pieces)
    ids = glimpses.track_id[other[:, [0, 2]]]
    most = float(np.log(max(len(np.unique(np.sort(ids, axis=1), axis=0)), _FEWEST)))
    if min(len(same), len(other)) < _FEWEST:
        return AppearanceEvidence(_USUAL, most)
    features = np.concatenate(
        [_measure(glimpses, pairs, frames_per_second) for pairs in (same, other)]
    )
    is_same = np.append(np.ones(len(same)), np.zeros(len(other)))
    share = np.where(is_same == 1, 0.5 / len(same), 0.5 / len(other))
    return AppearanceEvidence(_logistic(features, is_same, share), most)


def _features(near: FloatArray, whole: FloatArray, gap_s: FloatArray) -> FloatArray:
    time = np.log(np.asarray(gap_s, np.float64) + 0.1)
    columns = [np.ones_like(time), near, whole, time, near * time, whole * time]
    return np.stack(columns, axis=-1)


def _sample(glimpses: Glimpses, pieces: IntArray) -> tuple[IntArray, IntArray]:
    """Quadruples of glimpses: a stretch `[a, b)`, and one after it `[c, d)`.

    In the first array both are of one piece; in the second the later one is of another piece that
    is in view at the same time as the first piece.
    """
    none = np.zeros((0, 4), np.int64)
    length = pieces[:, 1] - pieces[:, 0]
    chance = np.maximum(length - 1, 0).astype(np.float64)
    if not chance.sum():
        return none, none
    dice = np.random.default_rng(0)
    u = dice.random((6, _SAMPLES))
    piece = dice.choice(len(pieces), _SAMPLES, p=chance / chance.sum())
    low, high = pieces[piece].T

    def length_of(share: FloatArray, most: IntArray) -> IntArray:
        """1 to `most`, of all orders of magnitude alike, as pieces and gaps are."""
        chosen: IntArray = np.floor((np.minimum(most, _LONGEST) + 0.999) ** share).astype(np.int64)
        return chosen

    b = low + 1 + np.floor(u[0] * (high - low - 1)).astype(np.int64)
    c = b - 1 + np.floor((high - b + 0.999) ** u[1]).astype(np.int64)
    a = b - length_of(u[2], b - low)
    same = np.stack([a, b, c, c + length_of(u[3], high - c)], axis=1)

    by_time = np.argsort(glimpses.first_frame, kind="stable")
    times = glimpses.first_frame[by_time]
    first = np.searchsorted(times, glimpses.first_frame[c], "left")
    after = np.searchsorted(times, glimpses.last_frame[c], "right")
    chosen = first + np.floor(u[4] * (after - first)).astype(np.int64)
    other = by_time[np.minimum(chosen, len(times) - 1)]
    of_glimpse = np.repeat(np.arange(len(pieces)), length)
    valid = (of_glimpse[other] != piece) & (
        glimpses.first_frame[other] > glimpses.last_frame[b - 1]
    )
    valid &= glimpses.first_frame[other] <= glimpses.last_frame[high - 1]
    end = other + length_of(u[5], pieces[of_glimpse[other], 1] - other)
    different = np.stack([a, b, other, end], axis=1)
    return same, different[valid]


def _measure(glimpses: Glimpses, pairs: IntArray, frames_per_second: float) -> FloatArray:
    """`(n, 6)` features of quadruples."""
    assert glimpses.sums is not None  # noqa: S101
    a, b, c, d = pairs.T
    means = [
        unit(sum_ranges(glimpses.sums, start, end))
        for start, end in (
            (np.maximum(a, b - NEAR), b),
            (c, np.minimum(d, c + NEAR)),
            (a, b),
            (c, d),
        )
    ]
    gap_s = (glimpses.first_frame[c] - glimpses.last_frame[b - 1]) / frames_per_second
    return _features(distance(means[0], means[1]), distance(means[2], means[3]), gap_s)


def sum_ranges(sums: FloatArray, start: IntArray, end: IntArray) -> FloatArray:
    """`(n, D)` sums of the rows from each start to before each end; ranges may overlap."""
    total = np.zeros((len(start), sums.shape[1]))
    for offset in range(int((end - start).max(initial=0))):
        rows = np.flatnonzero(start + offset < end)
        total[rows] += sums[start[rows] + offset]
    return total


def _logistic(features: FloatArray, is_same: FloatArray, share: FloatArray) -> FloatArray:
    """Coefficients of a logistic regression that is pulled towards the usual ones."""
    sign = 2 * is_same - 1

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (features @ weights)
        chance = np.exp(-np.logaddexp(0, margin))  # of the wrong answer
        off = weights - _USUAL
        slope = -(features.T @ (share * sign * chance)) + _PULL * off
        return float(share @ np.logaddexp(0, -margin) + _PULL / 2 * off @ off), slope

    from scipy.optimize import minimize  # a second at the start of every run otherwise

    weights: FloatArray = minimize(loss, _USUAL, jac=True, method="L-BFGS-B").x
    return weights

"""How far apart the embeddings of two people lie in this video, learned while it is tracked.

Two detections of one frame are two people, so every frame shows how embeddings of different people
are distributed: no labels and no settings of the network are needed. Networks differ much in that
(OSNet's vectors share a large mean, a joint network's do not), and so do videos: a joint network
tells people of a scene that it was trained on far better apart than those of a new one. A match by
appearance must therefore be closer than all but a small share of different people are.

Measured reasons: docs/decisions/0016-order-of-the-stages.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.frame import Frame
from jde_ray.models.tracking.matching import (
    Indices,
    overlap_of_pairs,
    pair_products,
    to_distance,
)

PRIOR_LIMIT = 0.7  # before anything is known
DIFFERENT_BELOW = 0.02  # share of pairs of different people that are closer than the limit

_BINS = 128
_WIDTH = 2.0 / (_BINS - 0.01)  # distances of unit vectors are 0 to 2, and a little more by rounding
_PRIOR_PAIRS = 100.0  # as many pairs count as much as the prior limit
_PRIOR_VECTORS = 50.0  # as many embeddings count as much as a mean of zero
_MOST_PER_FRAME = 16  # detections whose pairs are counted
_MOST_OVERLAP = 0.1  # two boxes that overlap more may be one person
_MEMORY = 20_000.0  # embeddings; older ones fade
_ENOUGH_VECTORS, _ENOUGH_PAIRS = 100.0, 300.0  # after which only every n-th frame is counted
_EVERY = 8
_SMALLEST = 1e-6  # added to squared lengths, for vectors that are the mean
_FADING = 2.0  # how much faster than the share of new embeddings pairs fade


class Calibration:
    """The mean embedding of a video, and the distances of different people around it.

    Args:
        width: D of the embeddings.

    Attributes:
        mean: `(D,)` float32, shrunk towards 0 while few embeddings are known.
        limit: Distance of centred embeddings that `DIFFERENT_BELOW` of the pairs of different
            people do not exceed.
    """

    def __init__(self, width: int) -> None:
        self._sum = np.zeros(width)
        self._histogram = np.zeros(_BINS)
        self._vectors = self._frames = 0.0
        self._derive()

    def get_state(self) -> NDArray[np.float64]:
        """`(2 + D + bins,)` numbers on which the rest depends."""
        return np.concatenate([[self._vectors, self._frames], self._sum, self._histogram])

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Restore a state of `get_state`.

        Raises:
            ValueError: If it has another length.
        """
        expected = 2 + len(self._sum) + _BINS
        if state.shape != (expected,):
            raise ValueError(f"calibration: got shape {state.shape}, expected ({expected},)")
        self._vectors, self._frames = (float(value) for value in state[:2])
        self._sum, self._histogram = state[2:-_BINS].copy(), state[-_BINS:].copy()
        self._derive()

    def learn(self, frame: Frame, least_score: float) -> None:
        """Count the embeddings of a frame's sure detections, and the distances of their pairs.

        Args:
            frame: The frame.
            least_score: Lowest score of a sure detection.
        """
        self._frames += 1
        if self._frames % self._interval:
            return
        detections = (frame.scores >= least_score).nonzero()[0]
        if not len(detections):
            return
        if len(detections) > _MOST_PER_FRAME:
            chosen = np.arange(_MOST_PER_FRAME) * len(detections) // _MOST_PER_FRAME
            detections = detections[chosen]
        vectors = frame.embeddings.take(detections, axis=0)
        self._sum += vectors.sum(axis=0)
        self._vectors += len(vectors)
        # distances around a young mean say little: early pairs fade as the mean settles
        self._histogram *= max(0.0, 1.0 - _FADING * len(vectors) / self._vectors)
        if self._vectors > _MEMORY:
            self._sum *= _MEMORY / self._vectors
            self._vectors = _MEMORY
        if len(detections) > 1:
            self._count_pairs(vectors, frame.tlbr.take(detections, axis=1))
        self._derive()

    def _count_pairs(self, vectors: FloatArray, tlbr: FloatArray) -> None:
        first, second, place = _pairs_of(len(vectors))
        centred = vectors - self.mean
        lengths = np.vecdot(centred, centred)
        lengths += _SMALLEST
        centred /= np.sqrt(lengths, out=lengths)[:, None]
        distance = to_distance((centred @ centred.T).take(place))
        distance *= 1 / _WIDTH
        one, other = tlbr.take(first, axis=1), tlbr.take(second, axis=1)
        apart = overlap_of_pairs(one, other) < _MOST_OVERLAP
        self._histogram += np.bincount(distance.astype(np.intp), apart, _BINS)

    def _derive(self) -> None:
        self.mean = (self._sum / (self._vectors + _PRIOR_VECTORS)).astype(np.float32)
        self._half = 0.5 * (1.0 + float(self.mean @ self.mean)) + _SMALLEST
        cumulated = self._histogram.cumsum()
        pairs = float(cumulated[-1])
        is_settled = self._vectors >= _ENOUGH_VECTORS and pairs >= _ENOUGH_PAIRS
        self._interval = _EVERY if is_settled else 1
        self.limit = PRIOR_LIMIT
        if pairs:
            wanted = DIFFERENT_BELOW * pairs
            at = int(cumulated.searchsorted(wanted))
            before = float(cumulated[at - 1]) if at else 0.0
            quantile = (at + (wanted - before) / (float(cumulated[at]) - before)) * _WIDTH
            self.limit = (pairs * quantile + _PRIOR_PAIRS * PRIOR_LIMIT) / (pairs + _PRIOR_PAIRS)

    def distance(
        self, tracks: FloatArray, detections: FloatArray, rows: Indices, columns: Indices
    ) -> FloatArray:
        """`embedding_distance` of the vectors minus the mean, at unit length again.

        The vectors are not centred one by one, since there are fewer pairs than numbers in them.
        For unit vectors u, v and the mean m, (u - m).(v - m) = u.v + |u - m|^2/2 + |v - m|^2/2 - 1.
        """
        product = pair_products(tracks, detections, rows, columns)
        own = (self._half - tracks @ self.mean).take(rows)  # |u - m|^2 / 2
        found = (self._half - detections @ self.mean).take(columns)
        product += own
        product += found
        product -= 1.0
        own *= found
        product /= np.sqrt(own, out=own)  # twice the cosine
        np.subtract(2.0, product, out=product)
        np.maximum(product, 0.0, out=product)
        return np.sqrt(product, out=product)


@cache
def _pairs_of(count: int) -> tuple[Indices, Indices, Indices]:
    """Each pair of `count` things once, and its place in a flat `(count, count)` matrix."""
    first, second = np.triu_indices(count, 1)
    return first, second, first * count + second

"""How far apart the embeddings of two people lie in this video, learned while it is tracked.

Two detections of one frame are two people, so every frame shows how embeddings of different people
are distributed: no labels and no settings of the network are needed. Networks differ much in that
(OSNet's vectors share a large mean, a joint network's do not), and so do videos: a joint network
tells people of a scene that it was trained on far better apart than those of a new one. A match by
appearance must therefore be closer than all but a small share of different people are.

Measured reasons: docs/decisions/0016-order-of-the-stages.md.
"""

from __future__ import annotations

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
_WIDTH = 2.0 / _BINS  # distances of unit vectors are 0 to 2
_PRIOR_PAIRS = 100.0  # as many pairs count as much as the prior limit
_PRIOR_VECTORS = 50.0  # as many embeddings count as much as a mean of zero
_MOST_PER_FRAME = 12  # detections whose pairs are counted
_MOST_OVERLAP = 0.1  # two boxes that overlap more may be one person
_MEMORY = 20_000.0  # embeddings; older ones fade
_ENOUGH = 500.0  # embeddings after which only every n-th frame is counted
_EVERY = 8
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

    def learn(self, frame: Frame, detections: NDArray[np.intp]) -> None:
        """Count the embeddings of these detections of a frame, and the distances of their pairs.

        Args:
            frame: The frame.
            detections: `(K,)` indices of its sure detections.
        """
        self._frames += 1
        if not len(detections) or (self._vectors >= _ENOUGH and self._frames % _EVERY):
            return
        if len(detections) > _MOST_PER_FRAME:
            chosen = np.arange(_MOST_PER_FRAME) * len(detections) // _MOST_PER_FRAME
            detections = detections[chosen]
        vectors = frame.embeddings.take(detections, axis=0)
        self._sum += vectors.sum(axis=0, dtype=np.float64)
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
        first, second = np.triu_indices(len(vectors), 1)
        apart = overlap_of_pairs(tlbr[:, first], tlbr[:, second]) < _MOST_OVERLAP
        distance = self.distance(vectors, vectors, first[apart], second[apart])
        bins = (distance / _WIDTH).astype(np.intp)
        self._histogram += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)

    def _derive(self) -> None:
        self.mean = (self._sum / (self._vectors + _PRIOR_VECTORS)).astype(np.float32)
        self._square = float(self.mean @ self.mean)
        cumulated = self._histogram.cumsum()
        pairs = float(cumulated[-1])
        self.limit = PRIOR_LIMIT
        if pairs:
            wanted = DIFFERENT_BELOW * pairs
            at = int(np.searchsorted(cumulated, wanted))
            before = cumulated[at - 1] if at else 0.0
            quantile = (at + (wanted - before) / (cumulated[at] - before)) * _WIDTH
            self.limit = float(
                (pairs * quantile + _PRIOR_PAIRS * PRIOR_LIMIT) / (pairs + _PRIOR_PAIRS)
            )

    def distance(
        self, tracks: FloatArray, detections: FloatArray, rows: Indices, columns: Indices
    ) -> FloatArray:
        """`embedding_distance` of the vectors minus the mean, at unit length again.

        The vectors are not centred one by one: their products with each other and with the mean
        are enough, and there are fewer pairs than numbers in the vectors.
        """
        own, found = tracks @ self.mean, detections @ self.mean
        cosine = pair_products(tracks, detections, rows, columns)
        cosine -= (own - self._square).take(rows)
        cosine -= found.take(columns)
        cosine *= _inverse_norm(own, self._square).take(rows)
        cosine *= _inverse_norm(found, self._square).take(columns)
        return to_distance(cosine)


def _inverse_norm(products: FloatArray, square: float) -> FloatArray:
    """1 / |v - mean| of unit vectors v, given v . mean and mean . mean."""
    squares = products * -2.0
    squares += 1.0 + square
    np.maximum(squares, np.float32(1e-12), out=squares)  # a vector that is the mean
    inverse: FloatArray = np.reciprocal(np.sqrt(squares, out=squares), out=squares)
    return inverse

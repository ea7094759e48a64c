"""Embeddings as few numbers: their principal components, each of unit variance.

The recurrent autoregression of appearance (`models.tracking.ran_weights`) reads these instead of
whole embeddings, which would take a state as wide as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

COMPONENTS = 32  # at most: fewer if the embeddings vary in fewer directions
_LEAST_VARIANCE = 1e-6  # of a component, relative to the first one's


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A linear map of unit embeddings, and the network whose embeddings it fits.

    Attributes:
        matrix: `(K, D)` to K components.
        centre: `(D,)` mean embedding, which becomes 0.
        embedder: Name of the network, for messages.
        embedder_sha256: Its fingerprint; empty if it is unknown.

    Raises:
        ValueError: If shapes do not fit, or a number is not finite; one line.
    """

    matrix: Array
    centre: Array
    embedder: str = ""
    embedder_sha256: str = ""

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.centre.shape != self.matrix.shape[1:]:
            got = f"got shapes {self.matrix.shape} and {self.centre.shape}"
            raise ValueError(f"projection: {got}, expected (K, D) and (D,)")
        if not (np.isfinite(self.matrix).all() and np.isfinite(self.centre).all()):
            raise ValueError("projection: got a number that is not finite, expected finite")

    @property
    def num_components(self) -> int:
        """K."""
        return len(self.matrix)

    @property
    def width(self) -> int:
        """D, the length of the embeddings."""
        return len(self.centre)

    def apply(self, embeddings: ArrayLike) -> Array:
        """Components `(K, N)` of `(N, D)` unit embeddings; zeros for embeddings of zeros."""
        looks = np.asarray(embeddings, np.float64)
        components = self.matrix @ looks.T - (self.matrix @ self.centre)[:, None]
        components[:, ~looks.any(axis=1)] = 0.0
        return components


def fit(embeddings: ArrayLike, embedder: str = "", embedder_sha256: str = "") -> Projection:
    """The projection onto the directions in which embeddings vary most.

    Args:
        embeddings: `(N, D)` unit embeddings.
        embedder: Name of their network.
        embedder_sha256: Its fingerprint.

    Raises:
        ValueError: If they are fewer than two, or all alike.
    """
    looks = np.asarray(embeddings, np.float64)
    centre = looks.mean(axis=0) if len(looks) else np.zeros(looks.shape[1])
    apart = looks - centre
    variances, axes = np.linalg.eigh(apart.T @ apart / max(1, len(looks)))
    variances, axes = variances[::-1], axes[:, ::-1]
    if not len(variances) or variances[0] <= 1e-12:
        raise ValueError(f"embeddings: got {len(looks)} that do not differ, expected some that do")
    kept = (variances > _LEAST_VARIANCE * variances[0])[:COMPONENTS]
    matrix = axes[:, : len(kept)][:, kept] / np.sqrt(variances[: len(kept)][kept])
    return Projection(
        matrix=matrix.T, centre=centre, embedder=embedder, embedder_sha256=embedder_sha256
    )


def unit(embeddings: ArrayLike) -> Array:
    """`(N, D)` embeddings at unit length; zeros stay zeros."""
    looks = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(looks, axis=1, keepdims=True)
    return np.asarray(looks / np.where(lengths > 0, lengths, 1.0))

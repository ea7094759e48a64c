"""A track as a set of pictures: its feature is their mean, weighted by the quality of each.

Liu, Yan and Ouyang, "Quality Aware Network for Set to Set Recognition" (2017); with torch, for
whole sets at once, `models.reid.sets`. The running sum of `mu x` is kept as its direction, which
is the feature of length 1, and its length. The sum of `mu` is not needed, since the feature is
normalised.

The quality travels beside the vector (`Detections.quality`) and not as the vector's length, which
would need no field: scores of embeddings, relinking, second looks and files all take vectors of
length 1, callers give vectors of any length that mean nothing, and a short vector loses digits in
float16. A network that tells no quality leaves everything as it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def with_pictures(
    features: NDArray[np.float32],
    lengths: NDArray[np.float64],
    vectors: NDArray[np.float32],
    quality: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features of sets that each get one more picture; the order of pictures does not matter.

    Args:
        features: `(K, D)` features of length 1; those of empty sets (length 0) are replaced.
        lengths: `(K,)` lengths of the sums behind them.
        vectors: `(K, D)` vectors of the pictures, of length 1 or zeros.
        quality: `(K,)` their qualities, 0 or more; a picture of quality 0 has no effect.

    Returns:
        `(K, D)` features and `(K,)` lengths of the sums. A sum of 0 keeps the feature.
    """
    sums = features * lengths[:, None] + vectors * quality.astype(np.float64)[:, None]
    length = np.where(quality > 0, np.sqrt(np.vecdot(sums, sums)), lengths)
    kept = (quality == 0) | (length == 0)
    unit = (sums / np.where(kept, 1.0, length)[:, None]).astype(np.float32)
    return np.where(kept[:, None], features, unit), length

"""Raw scores of detectors in MOT text, such as margins of a support vector machine, from 0 to 1."""

from __future__ import annotations

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.config import parse_score_map

# Logistic curves that map raw scores to [0, 1]: midpoint and scale. At the midpoint half of the
# boxes are people, as measured on the public detections (docs/association.md).
SVM_SCORES = (0.25, 0.35)  # margins of DPM, about -1 to 5
BOOST_SCORES = (30.0, 15.0)  # sums of boosted trees such as ACF, about -10 to 150
_MOST_MARGIN = 15.0


def to_scores(raw: FloatArray, score_map: str = "auto") -> FloatArray:
    """Map the raw scores of a detector to [0, 1].

    Args:
        raw: `(n,)` scores of one file.
        score_map: `auto` keeps scores that are in [0, 1] already; others become
            1 / (1 + exp((midpoint - raw) / scale)), with midpoint and scale for margins of a
            support vector machine (DPM) if none is above 15, else for boosted trees (ACF).
            `none` keeps them unchanged; `MIDPOINT/SCALE` sets the curve.

    Returns:
        `(n,)` float32, in the same order.

    Raises:
        ValueError: If the map cannot be parsed, or scores outside [0, 1] remain.

    >>> to_scores(np.array([0.2, 1.0])).tolist(), to_scores(np.array([0.0, 40.0]), "40/10")[1]
    ([0.20000000298023224, 1.0], np.float32(0.5))
    """
    within = not len(raw) or (raw.min() >= 0 and raw.max() <= 1)
    if score_map == "none" or (score_map == "auto" and within):
        if not within:
            raise ValueError(
                f"score-map: got scores {raw.min():g} to {raw.max():g}, expected 0 to 1 without a"
                " map"
            )
        return raw.astype(np.float32)
    if score_map == "auto":
        midpoint, scale = SVM_SCORES if raw.max() <= _MOST_MARGIN else BOOST_SCORES
    else:
        midpoint, scale = parse_score_map(score_map)
    with np.errstate(over="ignore"):
        mapped: FloatArray = (1 / (1 + np.exp((midpoint - raw) / scale))).astype(np.float32)
    return mapped

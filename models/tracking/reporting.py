"""Which tracked boxes of a frame become rows: the last filter of every way that tracks leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import AssociationConfig

SMALL, WIDE = "min_box_area", "aspect"  # causes, as they are counted

_MOST_ASPECT = 1.6  # width over height, of the original


def left_out(
    tlbr: FloatArray, config: AssociationConfig, min_box_area: float
) -> dict[str, NDArray[np.bool_]]:
    """Counts of what is not reported, by cause.

    Args:
        tlbr: `(M, 4)` tracked boxes in source pixels.
        config: Of the association. Mode `published` also leaves out boxes of just `min_box_area`,
            and those more than 1.6 times as wide as high, as the original does when it writes.
        min_box_area: Smaller boxes are left out, in square pixels.

    Returns:
        `(M,)` masks that do not overlap.
    """
    width, height = tlbr[:, 2] - tlbr[:, 0], tlbr[:, 3] - tlbr[:, 1]
    area = width * height
    if not (isinstance(config, TrackingConfig) and config.mode == "published"):
        return {SMALL: area < min_box_area}
    small = area <= min_box_area
    return {SMALL: small, WIDE: ~small & (width > _MOST_ASPECT * height)}


def reported(tlbr: FloatArray, config: AssociationConfig, min_box_area: float) -> NDArray[np.bool_]:
    """`(M,)` mask of the boxes that become rows; arguments as `left_out`."""
    kept = np.ones(len(tlbr), np.bool_)
    for mask in left_out(tlbr, config, min_box_area).values():
        kept &= ~mask
    return kept

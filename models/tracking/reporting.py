"""Decides which tracked boxes of a frame become rows, for every way in which tracks are output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import AssociationConfig

SMALL, WIDE = "min_box_area", "aspect"  # causes, under which the boxes are counted

_MOST_ASPECT = 1.6  # the original's limit of width / height


def left_out(
    tlbr: FloatArray, config: AssociationConfig, min_box_area: float
) -> dict[str, NDArray[np.bool_]]:
    """Boxes that are not reported, by cause.

    Args:
        tlbr: `(M, 4)` tracked boxes in source pixels.
        config: Settings of the association. Like the original, mode `published` also leaves out
            boxes of exactly `min_box_area` and boxes wider than 1.6 times their height.
        min_box_area: Smaller boxes are left out, in square pixels.

    Returns:
        `(M,)` bool masks that do not overlap.
    """
    width, height = tlbr[:, 2] - tlbr[:, 0], tlbr[:, 3] - tlbr[:, 1]
    area = width * height
    if not (isinstance(config, TrackingConfig) and config.mode == "published"):
        return {SMALL: area < min_box_area}
    small = area <= min_box_area
    return {SMALL: small, WIDE: ~small & (width > _MOST_ASPECT * height)}


def reported(tlbr: FloatArray, config: AssociationConfig, min_box_area: float) -> NDArray[np.bool_]:
    """`(M,)` mask of the boxes that become rows; arguments are those of `left_out`."""
    kept = np.ones(len(tlbr), np.bool_)
    for mask in left_out(tlbr, config, min_box_area).values():
        kept &= ~mask
    return kept

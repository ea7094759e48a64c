"""Decides which tracked boxes of a frame become rows, for every way in which tracks are output."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import AssociationConfig

SMALL, WIDE = "min_box_area", "aspect"  # causes, under which the boxes are counted

_MOST_ASPECT = 1.6  # the original's limit of width / height


class ReportConfig(Protocol):
    """Settings that decide which boxes are reported; `pipelines.config.TrackConfig` has them."""

    @property
    def tracking(self) -> AssociationConfig:
        """Settings of the association."""
        ...

    @property
    def min_box_area(self) -> float:
        """Smaller boxes are left out, in square pixels."""
        ...


def left_out(tlbr: FloatArray, config: ReportConfig) -> dict[str, NDArray[np.bool_]]:
    """Boxes that are not reported, by cause.

    Args:
        tlbr: `(M, 4)` tracked boxes in source pixels.
        config: Settings of the run. Like the original, an association in mode `published` also
            leaves out boxes of exactly `min_box_area` and boxes wider than 1.6 times their height.

    Returns:
        `(M,)` bool masks that do not overlap.
    """
    tracking, min_box_area = config.tracking, config.min_box_area
    width, height = tlbr[:, 2] - tlbr[:, 0], tlbr[:, 3] - tlbr[:, 1]
    area = width * height
    if not (isinstance(tracking, TrackingConfig) and tracking.mode == "published"):
        return {SMALL: area < min_box_area}
    small = area <= min_box_area
    return {SMALL: small, WIDE: ~small & (width > _MOST_ASPECT * height)}


def reported(tlbr: FloatArray, config: ReportConfig) -> NDArray[np.bool_]:
    """`(M,)` mask of the boxes that become rows; arguments are those of `left_out`."""
    kept = np.ones(len(tlbr), np.bool_)
    for mask in left_out(tlbr, config).values():
        kept &= ~mask
    return kept

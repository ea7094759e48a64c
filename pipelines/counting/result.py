"""What a count found, before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from jde_ray.models.structures import IntArray
from jde_ray.pipelines.counting.counts import Overlap, Series
from jde_ray.pipelines.counting.heads import Failure
from jde_ray.pipelines.counting.parts import VideoFacts
from jde_ray.pipelines.formats.places_file import CameraPlaces


@dataclass(frozen=True)
class Counted:
    """Result of a count.

    Attributes:
        out: Address of OUT2.
        series: Counts by camera, place and direction.
        events: All events, rows of `EVENT_SCHEMA`.
        videos: Videos that were counted.
        failures: Files that were not counted.
        overlaps: Cameras whose recordings cover the same time twice.
        places: Places by camera.
        sizes: Width and height of the picture by camera, where known.
        heat: Sightings by camera and cell of the picture.
        num_new: Videos that were counted in this call; the others were counted before.
    """

    out: str
    series: Sequence[Series]
    events: pa.Table
    videos: Sequence[VideoFacts]
    failures: Sequence[Failure]
    overlaps: Sequence[Overlap]
    places: dict[str, CameraPlaces]
    sizes: dict[str, tuple[int, int]]
    heat: dict[str, IntArray]
    num_new: int

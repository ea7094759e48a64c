"""Counts videos by their files of `tracks/`. Works without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from jde_ray.models.counting.heat import count_sightings
from jde_ray.models.counting.joining import join_tracks
from jde_ray.models.counting.places import Rules
from jde_ray.models.counting.whole import count_events
from jde_ray.models.structures import IntArray
from jde_ray.pipelines.counting.heads import Failure, Head, failure_of, opened
from jde_ray.pipelines.counting.parts import Part, VideoPart, build_events
from jde_ray.pipelines.errors import one_line
from jde_ray.pipelines.formats.places_file import CameraPlaces, PlacesFile
from jde_ray.pipelines.formats.sightings import Sightings, read_sightings

_READERS = 4  # threads that read ahead; Arrow reads without Python's lock
_LONGEST_GAP_S = Rules.max_gap_s


@dataclass(frozen=True, kw_only=True)
class CountConfig:
    """Settings of a count that change events.

    Attributes:
        places: Places of all cameras.
        min_visit_s: Shorter visits and stays on a side of a line are left out.
        join_s: Join tracks over gaps of up to this many seconds first; 0 for none.

    Raises:
        ValueError: If a value is out of range.
    """

    places: PlacesFile
    min_visit_s: float = Rules.min_visit_s
    join_s: float = 0.0

    def __post_init__(self) -> None:
        _ = self.rules
        if not 0 <= self.join_s <= 3600:
            raise ValueError(f"join: got {self.join_s}, expected 0 to 3600 seconds")

    @property
    def rules(self) -> Rules:
        """What counts."""
        longest = max(_LONGEST_GAP_S, self.join_s, self.min_visit_s)
        return Rules(min_visit_s=self.min_visit_s, max_gap_s=longest)


def count_heads(heads: Sequence[Head], config: CountConfig) -> tuple[Part, bool]:
    """Count files of videos.

    Returns:
        What was counted, and whether all failures, if any, are lasting.
    """
    counted: list[VideoPart] = []
    heat: dict[str, IntArray] = {}
    is_lasting = True
    known: dict[tuple[str, tuple[int, int] | None], CameraPlaces] = {}
    with ThreadPoolExecutor(_READERS) as threads:
        for head, loaded in zip(heads, threads.map(_load, heads), strict=True):
            camera, key = head.origin.camera, (head.origin.camera, head.size)
            try:
                if isinstance(loaded, Failure):
                    is_lasting &= not loaded.is_passing
                    raise ValueError(loaded.reason)
                if key not in known:
                    known[key] = config.places.of_camera(*key)
                one = _count_one(head, loaded, known[key], config)
            except ValueError as error:
                counted.append(VideoPart(head, error=one_line(str(error))))
                continue
            counted.append(one)
            if head.size is not None:
                cells = count_sightings(loaded.rows.tlbr, head.size)
                heat[camera] = heat[camera] + cells if camera in heat else cells
    return Part(build_events(counted), [one.facts() for one in counted], heat), is_lasting


def _load(head: Head) -> Sightings | Failure:
    try:
        with opened(head.file) as parquet:
            return read_sightings(parquet)
    except (OSError, ValueError, pa.ArrowException) as error:
        return failure_of(head.file, error)


def _count_one(
    head: Head, loaded: Sightings, places: CameraPlaces, config: CountConfig
) -> VideoPart:
    rows, time_s, ids = loaded.rows, loaded.time_s, loaded.rows.track_id
    if config.join_s:
        ids = join_tracks(time_s, ids, rows.tlbr, config.join_s)
    events = count_events(places.places, config.rules, rows.frame, time_s, ids, rows.tlbr)
    length_s = max(head.length_s, float(time_s.max()) if len(time_s) else 0.0)
    return VideoPart(head, loaded.video, places, events, length_s)

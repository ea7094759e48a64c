"""Counts one stream by the places of its camera; events as plain values. Without Ray."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jde_ray.models.counting.counter import Counter
from jde_ray.models.counting.events import Event
from jde_ray.models.counting.places import GROUND, Rules
from jde_ray.models.structures import FloatArray, IntArray, TrackerState
from jde_ray.pipelines.formats.places_file import PlacesFile


class StreamCounter:
    """The counter of a stream, whose events equal those of `jde count` over the same rows.

    Args:
        places: Places of all cameras.
        camera: Camera of the stream.
        size: Width and height of its pictures.

    Raises:
        ValueError: If a place is outside the picture, or two have one name.
    """

    def __init__(self, places: PlacesFile, camera: str, size: tuple[int, int]) -> None:
        self._own = places.of_camera(camera, size)
        self._counter = Counter(self._own.places, Rules())
        # a snapshot of other places must not be continued, even of as many
        self.digest = hashlib.sha256(repr((self._own, Rules())).encode()).hexdigest()[:16]

    def update(
        self, frame: int, time_s: float, track_id: IntArray, tlbr: FloatArray
    ) -> list[dict[str, Any]]:
        """Events that became sure with the next frame.

        Args:
            frame: Number of the frame.
            time_s: Its time in seconds.
            track_id: `(m,)` ids of the people in it.
            tlbr: `(m, 4)` their boxes in pixels.
        """
        return self._plain(self._counter.update(frame, time_s, track_id, tlbr))

    def close(self) -> list[dict[str, Any]]:
        """Events of the people who are still present: the stream has ended."""
        return self._plain(self._counter.close())

    def get_state(self) -> TrackerState:
        """Everything that later events depend on."""
        return self._counter.get_state()

    def set_state(self, state: TrackerState) -> None:
        """Inverse of `get_state`.

        Raises:
            ValueError: If it is not a state of these places.
        """
        self._counter.set_state({name: np.asarray(array) for name, array in state.items()})

    def _plain(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        return [self._values(event) for event in events]

    def _values(self, event: Event) -> dict[str, Any]:
        """An event as in `events.parquet`, without what does not apply."""
        is_walk = event.place < 0
        ways = self._own.directions[event.place] if not is_walk else None
        values: dict[str, Any] = {
            "place": GROUND if is_walk else self._own.names[event.place],
            "direction": "walk" if ways is None else ways[event.direction],
            "track_id": event.track_id,
            "frame": event.frame,
            "time_s": event.time_s,
            "x": event.x,
            "y": event.y,
        }
        for name in ("duration_s", "distance_m"):
            value = getattr(event, name)
            if math.isfinite(value):
                values[name] = value
        return values


def has_places(places: PlacesFile, camera: str) -> bool:
    """Whether any place is of a camera."""
    return any(entry.matches(camera) for entry in places.entries)

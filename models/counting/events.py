"""Events: someone crossed a line, entered or left a zone, or ended a walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray

# what happened; an event holds the number of its direction here
DIRECTIONS = ("to_right", "to_left", "enter", "leave", "walk")
TO_RIGHT, TO_LEFT, ENTER, LEAVE, WALK = range(len(DIRECTIONS))


@dataclass(frozen=True, order=True)
class Event:
    """One event; the order of its fields is the order of events.

    Attributes:
        frame: Frame of the first sighting clearly on the other side of a line, the first or last
            one inside a zone (`enter`, `leave`), or the last one of a walk.
        track_id: Who.
        place: Number of the place in `Places.names`; -1 for a walk.
        direction: Number in `DIRECTIONS`.
        time_s: Time of that frame in seconds.
        x: Where, in pixels: on the line, or the foot point of that sighting.
        y: The same.
        duration_s: Time inside the zone (`leave`) or of the walk, from the first to the last
            sighting; NaN for other events.
        distance_m: Length of a walk on the ground; NaN for other events.
    """

    frame: int
    track_id: int
    place: int
    direction: int
    time_s: float
    x: float
    y: float
    duration_s: float = float("nan")
    distance_m: float = float("nan")


@dataclass(frozen=True)
class Events:
    """Events as columns of length n, named after the fields of `Event`, in its order.

    Raises:
        ValueError: If the lengths disagree.
    """

    frame: IntArray
    track_id: IntArray
    place: IntArray
    direction: IntArray
    time_s: FloatArray
    x: FloatArray
    y: FloatArray
    duration_s: FloatArray
    distance_m: FloatArray

    def __post_init__(self) -> None:
        if any(column.shape != self.frame.shape for column in vars(self).values()):
            got = [column.shape for column in vars(self).values()]
            raise ValueError(f"events: got shapes {got}, expected equal lengths")

    def __len__(self) -> int:
        return len(self.frame)

    @staticmethod
    def join(parts: Sequence[Events]) -> Events:
        """All events of the parts, in order."""
        if not parts:
            return Events(*(np.zeros(0, np.int64),) * 4, *(np.zeros(0),) * 5)
        columns = [np.concatenate(own) for own in zip(*(vars(p).values() for p in parts))]  # noqa: B905
        order = np.lexsort(columns[3::-1])
        return Events(*(column[order] for column in columns))

    def to_list(self) -> list[Event]:
        """The events one by one."""
        columns = [column.tolist() for column in vars(self).values()]
        return [Event(*row) for row in zip(*columns, strict=True)]


def make_events(
    direction: int,
    place: int,
    frame: IntArray,
    time_s: FloatArray,
    track_id: IntArray,
    at: tuple[FloatArray, FloatArray],
    duration_s: FloatArray | None = None,
    distance_m: FloatArray | None = None,
) -> Events:
    """Events of one direction and place from `(n,)` columns, in any order."""
    count = len(frame)
    unknown = np.full(count, np.nan)
    return Events(
        frame.astype(np.int64),
        track_id.astype(np.int64),
        np.full(count, place, np.int64),
        np.full(count, direction, np.int64),
        time_s.astype(np.float64),
        at[0].astype(np.float64),
        at[1].astype(np.float64),
        unknown if duration_s is None else duration_s,
        unknown if distance_m is None else distance_m,
    )

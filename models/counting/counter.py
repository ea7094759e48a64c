"""Events frame by frame; equal to those of `whole.count_events` over the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.counting.events import (
    ENTER,
    LEAVE,
    TO_LEFT,
    TO_RIGHT,
    WALK,
    Event,
    Events,
    make_events,
)
from jde_ray.models.counting.geometry import (
    clear_side,
    feet,
    ground_distance,
    is_right,
    meet,
    offset,
    step_of,
)
from jde_ray.models.counting.places import Places, Rules
from jde_ray.models.structures import FloatArray, IntArray, TrackerState

_Points = tuple[FloatArray, FloatArray]

# what is known of each present person, of each person and line, of each person and zone
_OF_TRACK = {
    "track_id": np.int64,
    "first_s": np.float64,
    "last_frame": np.int64,
    "last_s": np.float64,
    "x": np.float64,
    "y": np.float64,
    "step": np.int64,
    "step_x": np.float64,
    "step_y": np.float64,
    "distance_m": np.float64,
}
_OF_LINE = {
    "side": np.int8,  # where the person is; 0 before it is clear
    "is_on": np.bool_,  # where the last step passed the line
    "at_x": np.float64,
    "at_y": np.float64,
    "stay_s": np.float64,  # first sighting of a stay on the other side that is not sure; else NaN
    "stay_frame": np.int64,
    "stay_on": np.bool_,  # where the line was passed before it
    "stay_x": np.float64,
    "stay_y": np.float64,
}
_OF_ZONE = {
    "is_visit": np.bool_,  # the run of sightings inside is long enough to count
    "since_frame": np.int64,
    "since_s": np.float64,  # first sighting of the run or visit; NaN outside
    "since_x": np.float64,
    "since_y": np.float64,
    "inside_frame": np.int64,
    "inside_s": np.float64,  # last sighting inside during a visit
    "inside_x": np.float64,
    "inside_y": np.float64,
}
_NOW = "now_s"


class Counter:
    """Counts one stream. Its memory holds the people seen in the last `max_gap_s` seconds.

    Events are reported when they are sure, but have the frame and time of the sighting that they
    are about: crossings and `enter` come `min_visit_s` later, those of someone who disappeared
    `max_gap_s` later.

    Args:
        places: Places in pixels.
        rules: What counts.
    """

    def __init__(self, places: Places, rules: Rules) -> None:
        self._places, self._rules = places, rules
        self._now_s = -np.inf
        self._known = self._blank(0)

    def update(
        self, frame: int, time_s: float, track_id: IntArray, tlbr: FloatArray
    ) -> list[Event]:
        """Events that became sure with the next frame, in their order.

        Args:
            frame: Number of the frame, larger than the one before.
            time_s: Its time in seconds. One before that of an earlier frame counts as equal to it.
            track_id: `(m,)` ids of the people in it.
            tlbr: `(m, 4)` their boxes.
        """
        self._now_s = max(self._now_s, float(time_s))
        parts = self._forget(self._now_s - self._known["last_s"] > self._rules.max_gap_s)
        if len(track_id):
            parts += self._see(frame, np.asarray(track_id, np.int64), tlbr)
        return Events.join(parts).to_list() if parts else []

    def close(self) -> list[Event]:
        """Events of the people who are still present: the stream has ended."""
        parts = self._forget(np.ones(len(self._known["track_id"]), np.bool_))
        return Events.join(parts).to_list() if parts else []

    def occupancy(self) -> dict[str, int]:
        """Number of people who are visiting each zone now, by its name."""
        number = self._known["is_visit"].sum(axis=0).tolist()
        return dict(zip((zone.name for zone in self._places.zones), number, strict=True))

    def get_state(self) -> TrackerState:
        """Everything that later events depend on, except places and rules."""
        return {**{name: a.copy() for name, a in self._known.items()}, _NOW: np.array(self._now_s)}

    def set_state(self, state: TrackerState) -> None:
        """Inverse of `get_state`, for a counter of the same places and rules.

        Raises:
            ValueError: If the state is not one of a counter with as many lines and zones.
        """
        wanted = self._blank(len(np.atleast_1d(state.get("track_id", np.zeros(0)))))
        for name, blank in {**wanted, _NOW: np.array(0.0)}.items():
            got = state.get(name)
            if got is None or got.shape != blank.shape or got.dtype != blank.dtype:
                raise ValueError(f"counter: {name} does not fit these places")
        self._known = {name: state[name].copy() for name in wanted}
        self._now_s = float(state[_NOW])

    def _blank(self, count: int) -> TrackerState:
        lines, zones = len(self._places.lines), len(self._places.zones)
        blank = {name: np.zeros(count, kind) for name, kind in _OF_TRACK.items()}
        blank |= {name: np.zeros((count, lines), kind) for name, kind in _OF_LINE.items()}
        blank |= {name: np.zeros((count, zones), kind) for name, kind in _OF_ZONE.items()}
        blank["since_s"][:] = blank["stay_s"][:] = np.nan
        return blank

    def _forget(self, is_gone: NDArray[np.bool_]) -> list[Events]:
        """Close the visits and walks of people, and drop what is known of them."""
        if not is_gone.any():
            return []
        gone = {name: array[is_gone] for name, array in self._known.items()}
        self._known = {name: array[~is_gone] for name, array in self._known.items()}
        parts = []
        for place in range(len(self._places.lines)):
            parts += _crossed(gone, np.flatnonzero(np.isfinite(gone["stay_s"][:, place])), place)
        for zone, place in self._zones():
            rows = np.flatnonzero(gone["is_visit"][:, zone])
            if len(rows):
                parts.append(_leave(gone, rows, zone, place))
        if self._places.ground is not None:
            metres = ground_distance(
                self._places.ground, (gone["step_x"], gone["step_y"]), (gone["x"], gone["y"])
            )
            at, stay_s = (gone["x"], gone["y"]), gone["last_s"] - gone["first_s"]
            ids, total_m = gone["track_id"], gone["distance_m"] + metres
            frame, time_s = gone["last_frame"], gone["last_s"]
            parts.append(make_events(WALK, -1, frame, time_s, ids, at, stay_s, total_m))
        return parts

    def _see(self, frame: int, track_id: IntArray, tlbr: FloatArray) -> list[Events]:
        rows, is_new = self._rows_of(track_id)
        x, y, height = feet(np.asarray(tlbr), self._places.size)
        known = self._known
        known["first_s"][rows[is_new]] = self._now_s
        before = (known["x"][rows], known["y"][rows])
        parts = self._cross(frame, rows, ~is_new, before, (x, y), height)
        for zone, place in self._zones():
            parts += self._visit(frame, rows, zone, place, (x, y))
        if self._places.ground is not None:
            self._walk(rows, is_new, (x, y))
        values: dict[str, Any] = {
            "last_frame": frame,
            "last_s": self._now_s,
            "x": x,
            "y": y,
        }
        for name, value in values.items():
            known[name][rows] = value
        return parts

    def _rows_of(self, track_id: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """`(m,)` rows of ids in the state, and whether they are new there."""
        is_new = ~np.isin(track_id, self._known["track_id"])
        if is_new.any():
            added = self._blank(int(is_new.sum()))
            added["track_id"][:] = track_id[is_new]
            self._known = {n: np.concatenate([a, added[n]]) for n, a in self._known.items()}
        order = np.argsort(self._known["track_id"])
        rows = order[np.searchsorted(self._known["track_id"], track_id, sorter=order)]
        return rows, is_new

    def _zones(self) -> Iterator[tuple[int, int]]:
        """Number of each zone among the zones, and among all places."""
        first = len(self._places.lines)
        return ((zone, first + zone) for zone in range(len(self._places.zones)))

    def _cross(
        self,
        frame: int,
        rows: IntArray,
        is_known: NDArray[np.bool_],
        before: _Points,
        now: _Points,
        height: FloatArray,
    ) -> list[Events]:
        known = self._known
        parts: list[Events] = []
        for place, line in enumerate(self._places.lines):
            away = offset(line, *now)
            passes = np.flatnonzero(is_known & (is_right(away) != is_right(offset(line, *before))))
            if len(passes):
                steps = [(point[0][passes], point[1][passes]) for point in (before, now)]
                for name, value in zip(("is_on", "at_x", "at_y"), meet(line, *steps), strict=True):
                    known[name][rows[passes], place] = value
            side = clear_side(line, away, height)
            was, since_s = known["side"][rows, place], known["stay_s"][rows, place]
            known["side"][rows, place] = np.where(was == 0, side, was)
            known["stay_s"][rows[side * was > 0], place] = np.nan  # back again
            is_other = side * was < 0
            begun = rows[is_other & np.isnan(since_s)]
            known["stay_s"][begun, place], known["stay_frame"][begun, place] = self._now_s, frame
            for name, last in (("stay_on", "is_on"), ("stay_x", "at_x"), ("stay_y", "at_y")):
                known[name][begun, place] = known[last][begun, place]
            stayed_s = self._now_s - known["stay_s"][rows, place]
            sure = rows[is_other & (stayed_s >= self._rules.min_visit_s)]
            if len(sure):
                parts += _crossed(known, sure, place)
                known["side"][sure, place] *= -1
                known["stay_s"][sure, place] = np.nan
        return parts

    def _visit(
        self, frame: int, rows: IntArray, zone: int, place: int, now: _Points
    ) -> list[Events]:
        known, now_s, shortest = self._known, self._now_s, self._rules.min_visit_s
        inside = self._places.zones[zone].contains(*now)
        was = known["is_visit"][rows, zone]
        out = rows[~inside & ~was]
        known["since_s"][out, zone] = np.nan
        gone_s = now_s - known["inside_s"][rows, zone]
        ended = rows[~inside & was & (gone_s >= shortest)]
        parts = [_leave(known, ended, zone, place)] if len(ended) else []
        known["is_visit"][ended, zone], known["since_s"][ended, zone] = False, np.nan
        begins = inside & np.isnan(known["since_s"][rows, zone])
        values: dict[str, Any] = {"frame": frame, "s": now_s, "x": now[0], "y": now[1]}
        for name, value in values.items():
            every = np.broadcast_to(value, inside.shape)
            known[f"since_{name}"][rows[begins], zone] = every[begins]
            known[f"inside_{name}"][rows[inside], zone] = every[inside]
        stay_s = now_s - known["since_s"][rows, zone]
        sure = rows[inside & ~was & (stay_s >= shortest)]
        if not len(sure):
            return parts
        known["is_visit"][sure, zone] = True
        since = {name: known[f"since_{name}"][sure, zone] for name in values}
        ids, at = known["track_id"][sure], (since["x"], since["y"])
        return [*parts, make_events(ENTER, place, since["frame"], since["s"], ids, at)]

    def _walk(self, rows: IntArray, is_new: NDArray[np.bool_], now: _Points) -> None:
        known, ground = self._known, self._places.ground
        assert ground is not None  # noqa: S101
        step = step_of(self._now_s - known["first_s"][rows])
        is_kept = is_new | (step != known["step"][rows])
        old = rows[is_kept & ~is_new]
        is_old = is_kept & ~is_new
        ends = (now[0][is_old], now[1][is_old])
        begins = (known["step_x"][old], known["step_y"][old])
        known["distance_m"][old] += ground_distance(ground, begins, ends)
        for name, value in (("step", step), ("step_x", now[0]), ("step_y", now[1])):
            known[name][rows[is_kept]] = value[is_kept]


def _crossed(known: TrackerState, rows: IntArray, place: int) -> list[Events]:
    """Crossings of people whose stay on the other side of a line is sure."""
    parts = []
    rows = rows[known["stay_on"][rows, place]]
    for direction, side in ((TO_RIGHT, -1), (TO_LEFT, 1)):
        own = rows[known["side"][rows, place] == side]
        if len(own):
            frame, time_s, x, y = (known[f"stay_{n}"][own, place] for n in ("frame", "s", "x", "y"))
            ids = known["track_id"][own]
            parts.append(make_events(direction, place, frame, time_s, ids, (x, y)))
    return parts


def _leave(known: TrackerState, rows: IntArray, zone: int, place: int) -> Events:
    own = {n: known[f"inside_{n}"][rows, zone] for n in ("frame", "s", "x", "y")}
    stay_s = own["s"] - known["since_s"][rows, zone]
    at = (own["x"], own["y"])
    return make_events(LEAVE, place, own["frame"], own["s"], known["track_id"][rows], at, stay_s)

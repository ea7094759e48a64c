"""Events of a whole video at once; equal to those of `counter.Counter`, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.counting.events import (
    ENTER,
    LEAVE,
    TO_LEFT,
    TO_RIGHT,
    WALK,
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
from jde_ray.models.counting.places import Ground, Line, Places, Rules, Zone
from jde_ray.models.structures import FloatArray, IntArray


def count_events(
    places: Places,
    rules: Rules,
    frame: IntArray,
    time_s: FloatArray,
    track_id: IntArray,
    tlbr: FloatArray,
) -> Events:
    """All events of a video.

    Args:
        places: Places in pixels.
        rules: What counts.
        frame: `(n,)` frames of the rows, in any order.
        time_s: `(n,)` their times in seconds. A time before that of an earlier frame counts as
            equal to it.
        track_id: `(n,)` ids, each at most once per frame.
        tlbr: `(n, 4)` boxes.

    Raises:
        ValueError: If an id is twice in a frame.
    """
    seen = _sort(rules, frame, time_s, track_id, feet(tlbr, places.size))
    parts = [_crossings(line, i, rules, seen) for i, line in enumerate(places.lines)]
    for number, zone in enumerate(places.zones, len(places.lines)):
        parts += _visits(zone, number, rules, seen)
    if places.ground is not None and len(seen.frame):
        parts.append(_walks(places.ground, seen))
    return Events.join(parts)


@dataclass(frozen=True)
class _Sightings:
    """Rows by track and frame, with foot points.

    Attributes:
        presence: `(n,)` number of the time span in which the track was seen without a long gap.
        is_first: `(n,)` whether a row is the first one of its presence.
    """

    frame: IntArray
    time_s: FloatArray
    track_id: IntArray
    x: FloatArray
    y: FloatArray
    height: FloatArray
    presence: IntArray
    is_first: NDArray[np.bool_]


def _sort(
    rules: Rules,
    frame: IntArray,
    time_s: FloatArray,
    track_id: IntArray,
    points: tuple[FloatArray, FloatArray, FloatArray],
) -> _Sightings:
    if (np.diff(frame) < 0).any():
        order = np.argsort(frame, kind="stable")
        frame, track_id, time_s = frame[order], track_id[order], time_s[order]
        points = (points[0][order], points[1][order], points[2][order])
    time_s = np.maximum.accumulate(time_s.astype(np.float64)) if len(time_s) else time_s
    order = np.argsort(_small(track_id), kind="stable")
    frame, time_s, track_id = frame[order], time_s[order], track_id[order]
    is_first = np.ones(len(frame), np.bool_)
    is_new = np.diff(track_id) != 0
    is_twice = ~is_new & (np.diff(frame) == 0)
    if is_twice.any():
        at = np.flatnonzero(is_twice)[0]
        raise ValueError(f"got id {track_id[at]} twice in frame {frame[at]}, expected one box")
    is_first[1:] = is_new | (np.diff(time_s) > rules.max_gap_s)
    x, y, height = (one[order] for one in points)
    presence = np.cumsum(is_first) - 1
    return _Sightings(frame, time_s, track_id, x, y, height, presence, is_first)


def _small(track_id: IntArray) -> IntArray:
    """The same ids as 16-bit numbers if they fit, which are sorted ten times as fast."""
    if len(track_id) and track_id.min() >= 0 and track_id.max() < 1 << 16:
        return track_id.astype(np.uint16)
    return track_id


def _crossings(line: Line, place: int, rules: Rules, seen: _Sightings) -> Events:
    away = offset(line, seen.x, seen.y)
    right, side = is_right(away), clear_side(line, away, seen.height)
    clear = np.flatnonzero(side)
    rows = clear[_changes(side[clear], seen.presence[clear], seen.time_s[clear], rules)]
    passes = np.flatnonzero((right[1:] != right[:-1]) & ~seen.is_first[1:]) + 1
    last = passes[np.searchsorted(passes, rows, side="right") - 1] if len(rows) else rows
    before = (seen.x[last - 1], seen.y[last - 1])
    is_on, x, y = meet(line, before, (seen.x[last], seen.y[last]))
    rows, at = rows[is_on], (x[is_on], y[is_on])
    events = make_events(
        TO_RIGHT, place, seen.frame[rows], seen.time_s[rows], seen.track_id[rows], at
    )
    events.direction[side[rows] < 0] = TO_LEFT
    return events


def _changes(
    side: NDArray[np.int8], presence: IntArray, time_s: FloatArray, rules: Rules
) -> IntArray:
    """First sighting of each stay on another side than the one before.

    A stay shorter than the shortest visit is left out, unless the presence begins or ends with it,
    so that its true length is not known.

    Args:
        side: `(n,)` sides of sightings that are clearly on one.
        presence: `(n,)` numbers of their presences, ascending.
        time_s: `(n,)` their times.
        rules: Say what the shortest visit is.
    """
    if not len(side):
        return np.zeros(0, np.int64)
    is_other = np.diff(presence) != 0
    first = np.flatnonzero(np.append(True, is_other | (np.diff(side) != 0)))
    last = np.append(first[1:], len(side)) - 1
    begins = np.append(True, np.diff(presence[first]) != 0)
    ends = np.append(begins[1:], True)
    first = first[begins | ends | (time_s[last] - time_s[first] >= rules.min_visit_s)]
    same = np.diff(presence[first]) == 0
    changes: IntArray = first[1:][same & (np.diff(side[first]) != 0)]
    return changes


def _visits(zone: Zone, place: int, rules: Rules, seen: _Sightings) -> list[Events]:
    inside = zone.contains(seen.x, seen.y)
    if not inside.any():
        return []
    # runs of rows inside, none longer than a presence
    begins = inside & (seen.is_first | ~np.concatenate([[False], inside[:-1]]))
    next_first = np.append(seen.is_first[1:], True)
    ends = inside & (next_first | ~np.append(inside[1:], False))
    first, last = np.flatnonzero(begins), np.flatnonzero(ends)
    # a run continues the one before if the person was out for less than the shortest visit
    outside_s = seen.time_s[first[1:] - 1] - seen.time_s[last[:-1]]
    is_next = (seen.presence[first[1:]] == seen.presence[last[:-1]]) & (
        outside_s < rules.min_visit_s
    )
    chain = np.cumsum(np.append(False, ~is_next))
    is_sure = seen.time_s[last] - seen.time_s[first] >= rules.min_visit_s
    sure = np.flatnonzero(is_sure)
    if not len(sure):
        return []
    visits, opening = np.unique(chain[sure], return_index=True)
    enter = first[sure[opening]]
    leave = last[np.searchsorted(chain, visits, side="right") - 1]
    stay_s = seen.time_s[leave] - seen.time_s[enter]
    return [
        make_events(
            direction,
            place,
            seen.frame[rows],
            seen.time_s[rows],
            seen.track_id[rows],
            (seen.x[rows], seen.y[rows]),
            duration_s,
        )
        for direction, rows, duration_s in ((ENTER, enter, None), (LEAVE, leave, stay_s))
    ]


def _walks(ground: Ground, seen: _Sightings) -> Events:
    first = np.flatnonzero(seen.is_first)
    last = np.append(first[1:], len(seen.frame)) - 1
    begun_s = seen.time_s[first]
    step = step_of(seen.time_s - begun_s[seen.presence])
    is_kept = seen.is_first.copy()
    is_kept[1:] |= np.diff(step) != 0
    is_kept[last] = True  # the way since the last whole step
    kept = np.flatnonzero(is_kept)
    before, after = kept[:-1], kept[1:]
    is_step = seen.presence[before] == seen.presence[after]
    before, after = before[is_step], after[is_step]
    metres = ground_distance(
        ground, (seen.x[before], seen.y[before]), (seen.x[after], seen.y[after])
    )
    total_m = np.bincount(seen.presence[after], weights=metres, minlength=len(first))
    distance_m = total_m.astype(np.float64)
    alone = first[first == last]  # seen once: 0, or NaN above the horizon
    at = (seen.x[alone], seen.y[alone])
    distance_m[first == last] = ground_distance(ground, at, at)
    return make_events(
        WALK,
        -1,
        seen.frame[last],
        seen.time_s[last],
        seen.track_id[last],
        (seen.x[last], seen.y[last]),
        seen.time_s[last] - begun_s,
        distance_m,
    )

"""Counting in plain Python and exact numbers, person by person: what the fast halves must equal."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import shapely

from jde_ray.models.counting.events import DIRECTIONS


def short(event):
    """What the reference knows: who, where, when, which way, and how long."""
    stay = None if math.isnan(event.duration_s) else event.duration_s
    return (event.frame, event.track_id, event.place, DIRECTIONS[event.direction], stay)


def reference(places, rule, rows):
    """All crossings and visits of rows (frame, time, person, x, y of the foot point, height)."""
    found = []
    for person in {row[2] for row in rows}:
        presence, parts = None, []
        for frame, time_s, _, x, y, height in (row for row in rows if row[2] == person):
            if presence is None or time_s - presence[-1][1] > rule.max_gap_s:
                presence = []
                parts.append(presence)
            presence.append((frame, time_s, Fraction(x), Fraction(y), Fraction(height)))
        for part in parts:
            for place, line in enumerate(places.lines):
                ways = crossings(line, rule, part)
                found += [(frame, person, place, way, None) for frame, way in ways]
            for place, zone in enumerate(places.zones, len(places.lines)):
                for enter, leave in visits(zone, rule, part):
                    found.append((enter[0], person, place, "enter", None))
                    found.append((leave[0], person, place, "leave", leave[1] - enter[1]))
    return sorted(found, key=lambda row: (*row[:3], DIRECTIONS.index(row[3])))


def crossings(line, rule, part):
    (ax, ay), (bx, by) = (map(Fraction, end) for end in (line.start, line.end))
    squared = (bx - ax) ** 2 + (by - ay) ** 2
    before, is_on = None, False
    stays = []  # side, first and last time, first frame, whether the line was passed before it
    for frame, time_s, x, y, height in part:
        away = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        if before is not None and (before[2] > 0) != (away > 0):
            share = before[2] / (before[2] - away)
            at = (before[0] + share * (x - before[0]), before[1] + share * (y - before[1]))
            along = (at[0] - ax) * (bx - ax) + (at[1] - ay) * (by - ay)
            is_on = 0 <= along <= squared
        before = (x, y, away)
        if away * away > (Fraction(line.margin) * height) ** 2 * squared:
            now = 1 if away > 0 else -1
            if stays and stays[-1][0] == now:
                stays[-1][2] = time_s
            else:
                stays.append([now, time_s, time_s, frame, is_on])
    ends = (0, len(stays) - 1)
    kept = [s for i, s in enumerate(stays) if i in ends or s[2] - s[1] >= rule.min_visit_s]
    for old, new in itertools.pairwise(kept):
        if old[0] != new[0] and new[4]:
            yield new[3], "to_right" if new[0] > 0 else "to_left"


def visits(zone, rule, part):
    polygon = shapely.Polygon(zone.points)
    run, visit, last = None, None, None
    for frame, time_s, x, y, _ in part:
        inside = polygon.covers(shapely.Point(float(x), float(y)))
        if visit is None:
            run = (run or (frame, time_s)) if inside else None
            if run and time_s - run[1] >= rule.min_visit_s:
                visit = run
        if visit is not None and not inside and time_s - last[1] >= rule.min_visit_s:
            yield visit, last
            run = visit = None
        if inside:
            last = (frame, time_s)
    if visit is not None:
        yield visit, last

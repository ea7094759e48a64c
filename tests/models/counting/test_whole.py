"""Whole-file and live counting equal each other, and a reference in plain Python."""

import numpy as np
import pytest
import shapely
from counting_reference import reference, short
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.counting.counter import Counter
from jde_ray.models.counting.events import DIRECTIONS, Events
from jde_ray.models.counting.places import Ground, Line, Places, Rules, Zone
from jde_ray.models.counting.whole import count_events

HEIGHT = 8  # of all boxes here; with these margins all limits are exact numbers

coordinate = st.integers(0, 12)
point = st.tuples(coordinate, coordinate)


@st.composite
def lines(draw, name):
    ends = draw(st.lists(point, min_size=2, max_size=2, unique=True))
    return Line(name, *ends, margin=draw(st.sampled_from([0, 0.0625, 0.125, 0.375])))


@st.composite
def zones(draw, name):
    points = draw(st.lists(point, min_size=3, max_size=5, unique=True))
    hull = shapely.MultiPoint(points).convex_hull
    if hull.geom_type != "Polygon":
        hull = shapely.box(2, 2, 6, 7)
    return Zone(name, tuple(hull.exterior.coords[:-1]))


GROUND = Ground(((0, 2), (12, 2), (12, 12), (0, 12)), ((0, 9), (10, 9), (6, 0), (4, 0)))
all_places = st.builds(
    Places,
    st.tuples(lines("l1"), lines("l2")),
    st.tuples(zones("z1"), zones("z2")),
    st.sampled_from([None, GROUND]),
)
rules = st.builds(
    Rules,
    min_visit_s=st.sampled_from([0, 0.5, 1.0, 2.0]),
    max_gap_s=st.sampled_from([0.5, 2.0, 10.0]),
)


@st.composite
def walks(draw):
    """Rows of up to three people on a grid: frames are left out, paths stop, turn and jump."""
    frames = draw(st.integers(0, 24))
    steps = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 3.0]), min_size=25, max_size=25))
    times = np.cumsum(steps)
    rows = []
    for person in (1, 2, 7):
        path = draw(st.lists(point, min_size=frames, max_size=frames))
        seen = draw(st.lists(st.booleans(), min_size=frames, max_size=frames))
        rows += [
            (frame, times[frame], person, x, y)
            for frame, ((x, y), is_seen) in enumerate(zip(path, seen, strict=True))
            if is_seen
        ]
    rows.sort()
    return rows


def columns(rows):
    frame, time_s, ids, x, y = (np.array(c, float) for c in zip(*rows, strict=True)) if rows else (
        np.zeros(0),
    ) * 5  # fmt: skip
    tlbr = np.stack([x - 2, y - HEIGHT, x + 2, y], axis=1)
    return frame.astype(int), time_s, ids.astype(int), tlbr


def with_height(rows):
    return [(*row, HEIGHT) for row in rows]


def whole(places, rule, rows):
    return count_events(places, rule, *columns(rows)).to_list()


def live(places, rule, rows, restart=False):
    counter, events = Counter(places, rule), []
    frame, time_s, ids, tlbr = columns(rows)
    for one in np.unique(frame):
        own = frame == one
        events += counter.update(int(one), time_s[own][0], ids[own], tlbr[own])
        if restart:
            state = counter.get_state()
            counter = Counter(places, rule)
            counter.set_state(state)
    return sorted(events + counter.close())


def same(first, second):
    """Equal rows to the last bit; NaN equals NaN."""
    assert [repr(one) for one in first] == [repr(one) for one in second]


@settings(max_examples=100, deadline=None)
@given(all_places, rules, walks())
def test_live_whole_and_reference_are_equal(places, rule, rows):
    counted = whole(places, rule, rows)
    same(live(places, rule, rows), counted)
    assert [short(one) for one in counted if one.place >= 0] == reference(
        places, rule, with_height(rows)
    )


@settings(max_examples=30, deadline=None)
@given(all_places, rules, walks(), st.randoms(use_true_random=False))
def test_a_restart_after_any_frame_and_rows_in_any_order_change_nothing(places, rule, rows, dice):
    counted = whole(places, rule, rows)
    same(live(places, rule, rows, restart=True), counted)
    mixed = list(rows)
    dice.shuffle(mixed)
    same(whole(places, rule, mixed), counted)


@settings(max_examples=30, deadline=None)
@given(all_places, lines("l1"), rules, walks())
def test_moving_a_line_changes_no_other_event(places, moved, rule, rows):
    other = Places((moved, places.lines[1]), places.zones, places.ground)
    kept = [one for one in whole(places, rule, rows) if one.place != 0]
    same([one for one in whole(other, rule, rows) if one.place != 0], kept)


def path(*points, ids=1, seconds=0.25):
    """Rows of one person who is at these points, one per frame."""
    return [(frame, frame * seconds, ids, x, y) for frame, (x, y) in enumerate(points)]


LINE = Line("door", (0, 5), (10, 5), margin=0.25)  # from left to right: below it is on the right


def ways(line, rows):
    events = whole(Places((line,)), Rules(), rows)
    return [(DIRECTIONS[one.direction], one.frame, one.x, one.y) for one in events]


def test_a_crossing_is_counted_when_it_is_sure_at_the_place_where_it_was():
    rows = path((2, 2), (4, 4), (6, 6), (7, 6), (8, 8))
    assert ways(LINE, rows) == [("to_right", 4, 5.0, 5.0)]
    assert ways(Line("door", LINE.end, LINE.start, 0.25), rows)[0][0] == "to_left"


def test_a_person_who_lingers_on_the_line_counts_once():
    wobble = [(5, 5 + (-1) ** i) for i in range(20)]
    assert [way for way, *_ in ways(LINE, path((5, 1), *wobble, (5, 9)))] == ["to_right"]
    assert ways(LINE, path((5, 1), *wobble, (5, 1))) == []


def test_a_leap_to_the_other_side_and_back_is_no_crossing():
    leap = path((5, 1), (5, 1), (5, 9), (5, 1), (5, 1))
    assert ways(LINE, leap) == []
    assert len(whole(Places((LINE,)), Rules(min_visit_s=0.0), leap)) == 2
    longer = path((5, 1), (5, 1), (5, 9), (5, 9), (5, 9), (5, 1), (5, 1))
    assert [(way, frame) for way, frame, *_ in ways(LINE, longer)] == [
        ("to_right", 2),
        ("to_left", 5),
    ]
    assert len(ways(LINE, path((5, 1), (5, 9)))) == 1, "how long it would stay is not known"


def test_only_the_line_counts_not_its_extension():
    assert ways(LINE, path((11, 1), (11, 9))) == []
    back = ways(LINE, path((11, 1), (11, 9), (5, 9), (5, 1), seconds=1.0))
    assert [way for way, *_ in back] == ["to_left"]
    assert len(ways(LINE, path((10, 1), (10, 9)))) == 1, "its end belongs to it"


def test_feet_below_the_picture_count_as_on_its_edge():
    line, zone = Line("gate", (5, 10), (5, 0)), Zone("exit", ((2, 8), (8, 8), (8, 10), (2, 10)))
    rows = path(*((x, 11) for x in range(11)))
    assert whole(Places((line,), (zone,)), Rules(), rows) == []
    places = Places((line,), (zone,), size=(10, 10))
    events = whole(places, Rules(), rows)
    assert [(DIRECTIONS[one.direction], one.y) for one in events] == [
        ("enter", 10), ("to_right", 10), ("leave", 10)
    ]  # fmt: skip
    same(live(places, Rules(), rows), events)


def test_a_visit_bridges_short_absences_and_flicker_is_none():
    zone = Zone("queue", ((2, 2), (8, 2), (8, 8), (2, 8)))
    inside, out = (5, 5), (0, 5)
    rows = path(out, inside, out, inside, inside, inside, out, inside, out, out, out, out)
    events = whole(Places(zones=(zone,)), Rules(min_visit_s=0.5), rows)
    assert [short(one) for one in events] == [(3, 1, 0, "enter", None), (7, 1, 0, "leave", 1.0)]
    unfiltered = whole(Places(zones=(zone,)), Rules(min_visit_s=0), rows)
    assert [one.frame for one in unfiltered] == [1, 1, 3, 5, 7, 7]


def test_someone_who_disappears_inside_has_left_at_the_last_sighting():
    zone = Zone("queue", ((2, 2), (8, 2), (8, 8), (2, 8)))
    counter = Counter(Places(zones=(zone,)), Rules(min_visit_s=0.5, max_gap_s=2))
    box = np.array([[4.0, 0, 6, 5]])
    entered = [counter.update(i, i * 0.25, np.array([4]), box) for i in range(3)]
    assert [len(events) for events in entered] == [0, 0, 1]
    assert counter.occupancy() == {"queue": 1}
    nobody = np.zeros(0, int), np.zeros((0, 4))
    assert counter.update(10, 2.5, *nobody) == []
    (leave,) = counter.update(11, 2.75, *nobody)
    assert (short(leave), leave.time_s) == ((2, 4, 0, "leave", 0.5), 0.5)
    assert counter.occupancy() == {"queue": 0}
    assert counter.close() == []


def test_a_walk_on_the_ground_has_its_length_in_metres():
    ground = Ground(((0, 0), (10, 0), (10, 10), (0, 10)), ((0, 0), (5, 0), (5, 5), (0, 5)))
    rows = path(*((x, 5) for x in range(9)), seconds=0.5)
    (walk,) = whole(Places(ground=ground), Rules(), rows)
    assert (DIRECTIONS[walk.direction], walk.place, walk.duration_s) == ("walk", -1, 4.0)
    assert walk.distance_m == pytest.approx(4.0)


def test_a_point_above_the_horizon_has_no_place_on_the_ground():
    x, _ = GROUND.to_metres(np.array([6.0, 6.0]), np.array([12.0, -30.0]))
    assert np.isfinite(x).tolist() == [True, False]


def test_someone_seen_once_has_walked_nothing_or_nobody_knows():
    on_ground, above = path((6, 6)), path((6, -30))
    for rows, expected in ((on_ground, "0.0"), (above, "nan")):
        events = whole(Places(ground=GROUND), Rules(), rows)
        assert [repr(one.distance_m) for one in events] == [expected]
        same(live(Places(ground=GROUND), Rules(), rows), events)


def test_no_rows_have_no_events():
    places = Places((LINE,), ground=GROUND)
    assert whole(places, Rules(), []) == []
    assert len(Events.join([])) == 0


def test_times_that_run_backwards_count_as_equal():
    zone = Zone("queue", ((2, 2), (8, 2), (8, 8), (2, 8)))
    rows = [(0, 5.0, 1, 5, 5), (1, 3.0, 1, 5, 5), (2, 5.5, 1, 5, 5)]
    places = Places(zones=(zone,))
    same(live(places, Rules(), rows), whole(places, Rules(), rows))
    assert [one.time_s for one in whole(places, Rules(), rows)] == [5.0, 5.5]

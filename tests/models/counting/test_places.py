import pickle

import numpy as np
import pytest

from jde_ray.models.counting.counter import Counter
from jde_ray.models.counting.places import Ground, Line, Places, Rules, Zone

SQUARE = ((0, 0), (10, 0), (10, 10), (0, 10))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Line("door", (1, 1), (1, 1)), r"door: both ends are \(1, 1\)"),
        (lambda: Line("door", (1, float("nan")), (1, 1)), r"door: got \(1, nan\), expected finite"),
        (lambda: Line("door", (0, 0), (1, 1), -1), "door: margin: got -1, expected 0 to 10"),
        (lambda: Zone("q", ((0, 0), (1, 1), (0, 0))), "q: got 2 different points, expected"),
        (lambda: Zone("q", ((0, 0), (9, 9), (9, 0), (0, 9))), "q: its outline crosses"),
        (lambda: Zone("q", ((0, 0), (1, 1), (2, 2))), "q: its outline crosses or touches"),
        (lambda: Ground(SQUARE[:3], SQUARE), "ground: image: got 3 points, expected 4"),
        (lambda: Ground(SQUARE, ((0, 0), (1, 1), (2, 2), (5, 0))), "metres: .* no 3 are on a line"),
        (
            lambda: Places((Line("a", (0, 0), (1, 1)),), (Zone("a", SQUARE),)),
            "a: two places have this name",
        ),
        (lambda: Rules(min_visit_s=-1), "min-visit: got -1, expected 0 to 86400"),
    ],
)
def test_a_place_that_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_shares_of_the_picture_become_pixels_and_must_lie_in_it():
    shares = Places(
        (Line("door", (0, 0.5), (1, 0.5)),), (Zone("q", ((0, 0), (1, 0), (1, 1))),),
        Ground(((0, 0), (1, 0), (1, 1), (0, 1)), SQUARE),
    )  # fmt: skip
    places = shares.scaled(640, 360)
    assert places.lines[0].points == ((0, 180), (640, 180))
    assert places.zones[0].points[2] == (640, 360)
    assert places.ground.image[2] == (640, 360)
    assert places.ground.metres == SQUARE
    places.check_inside(640, 360)
    with pytest.raises(ValueError, match=r"door: \(640, 180\) is outside the picture, expected"):
        places.check_inside(639, 360)


def test_places_are_sent_to_other_processes():
    places = Places(zones=(Zone("q", SQUARE),))
    x, y = np.array([5.0, 10.0, 10.1]), np.array([5.0, 5.0, 5.0])
    assert places.zones[0].contains(x, y).tolist() == [True, True, False]
    copy = pickle.loads(pickle.dumps(places))  # noqa: S301
    assert copy == places
    assert copy.zones[0].contains(np.array([5.0]), np.array([5.0])).tolist() == [True]


def test_a_state_of_other_places_is_refused():
    state = Counter(Places(zones=(Zone("q", SQUARE),)), Rules()).get_state()
    with pytest.raises(ValueError, match="counter: is_visit does not fit"):
        Counter(Places(), Rules()).set_state(state)
    with pytest.raises(ValueError, match="counter: track_id does not fit"):
        Counter(Places(), Rules()).set_state({})

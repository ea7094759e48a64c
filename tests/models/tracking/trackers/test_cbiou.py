"""C-BIoU's own: enlarged boxes in two passes, and motion by mean velocity."""

import numpy as np
import pytest

from jde_ray.models.tracking import mean_velocity
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.cbiou import CBiouConfig

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
RIGHT = np.array([1.0, 0.0, 1.0, 0.0])


def build(**settings_):
    return JDETracker(CBiouConfig(**settings_), 30.0)


def step(tracker, boxes, score=0.9):
    boxes = np.reshape(boxes, (-1, 4))
    return tracker.update(boxes, np.full(len(boxes), score)).track_id.tolist()


@pytest.mark.parametrize(("shift", "growth", "expected"), [(45, 0.0, []), (45, 0.3, [1])])
def test_boxes_that_do_not_touch_match_once_they_are_enlarged(shift, growth, expected):
    tracker = build(first_growth=growth, second_growth=growth)
    step(tracker, BOX)
    assert step(tracker, BOX + shift * RIGHT) == expected


def test_the_second_pass_reaches_further_for_what_the_first_left():
    """Two people move by a box and a half; the first pass already takes the one who stays."""
    far = BOX + 60 * RIGHT
    for second, expected in ((0.3, []), (0.6, [1])):
        tracker = build(first_growth=0.3, second_growth=second)
        step(tracker, BOX)
        assert step(tracker, far) == expected
    tracker = build(first_growth=0.3, second_growth=0.6)
    step(tracker, np.concatenate([BOX, BOX + 200 * RIGHT]))
    moved = np.concatenate([far, BOX + 201 * RIGHT])
    assert step(tracker, moved) == [1, 2]


def test_a_sure_pair_of_the_first_pass_is_not_reopened_by_the_second():
    """A newcomer beside a track: in one pass with large boxes the sum would favour a swap."""
    tracker = build()
    step(tracker, BOX)
    tracks = tracker.update(np.concatenate([BOX + 30 * RIGHT, BOX + 2 * RIGHT]), [0.9, 0.9])
    assert tracks.track_id.tolist() == [1]
    assert tracks.detection_index.tolist() == [1]


def test_a_track_goes_on_at_its_mean_velocity_while_it_is_lost():
    tracker = build()
    for number in range(5):
        assert step(tracker, BOX + 30 * number * RIGHT) == [1]
    for _ in range(4):
        assert step(tracker, BOX[:0]) == []
    expected = BOX + 30 * 9 * RIGHT
    assert step(tracker, expected) == [1]


def test_the_mean_is_that_of_the_last_three_velocities():
    places = np.array([0.0, 1.0, 4.0, 9.0, 16.0])  # velocities 1, 3, 5, 7
    state = mean_velocity.initiate(np.array([[0.0], [5.0], [4.0], [8.0]]))
    expected = [0.0, 1.0, 2.0, 3.0, 5.0]
    for place, velocity in zip(places, expected, strict=True):
        if place:
            mean_velocity.predict(state)
            measured = np.array([[place], [5.0], [4.0], [8.0]])
            mean_velocity.correct(state, measured, np.ones((4, 1)))
        assert state[0, 0] == place
        assert state[4, 0] == pytest.approx(velocity)


def test_a_gap_counts_with_the_velocity_over_the_whole_of_it():
    state = mean_velocity.initiate(np.array([[0.0], [0.0], [4.0], [8.0]]))
    mean_velocity.predict(state, 1.0)
    mean_velocity.predict(state, 3.0)
    mean_velocity.correct(state, np.array([[8.0], [0.0], [4.0], [8.0]]), np.ones((4, 1)))
    assert state[4, 0] == pytest.approx(2.0)
    mean_velocity.predict(state, 2.0)
    assert state[0, 0] == pytest.approx(12.0)


def test_a_box_that_shrinks_away_keeps_a_side():
    state = mean_velocity.initiate(np.array([[0.0], [0.0], [4.0], [8.0]]))
    state[6] = -3.0
    mean_velocity.predict(state, 2.0)
    x1, y1, x2, y2 = mean_velocity.to_tlbr(state)[:, 0]
    assert x2 > x1
    assert y2 > y1


def test_growth_of_the_second_pass_is_at_least_that_of_the_first():
    with pytest.raises(ValueError, match=r"second_growth: got 0\.2, expected 0\.3 to"):
        CBiouConfig(second_growth=0.2)

"""The sway: a camera that moves all boxes is told from people who move on their own."""

import numpy as np
import pytest

from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.sway import Sway
from jde_ray.models.tracking.tracker import JDETracker

RATE = 30.0


def sway_of(common, frames=200, people=8):
    """What is learned if the camera's unknown motion has this deviation, that of people 1."""
    rng, sway = np.random.default_rng(3), Sway()
    for _ in range(frames):
        sway.observe(rng.normal(size=(2, people)) + common * rng.normal(size=(2, 1)))
    return sway


def test_a_standing_camera_is_told_from_one_that_moves():
    assert not sway_of(0.0).is_moving
    assert not sway_of(0.2).is_moving
    assert sway_of(3.0).is_moving


def test_the_common_part_is_returned_while_the_camera_moves():
    sway = sway_of(3.0)
    missed = np.array([[5.0, 5.0, 6.0, 4.0, 50.0], [-2.0, -2.0, -2.0, -3.0, 40.0]])
    np.testing.assert_array_equal(sway.observe(missed), [[5.0], [-2.0]])
    assert sway_of(0.0).observe(missed) is None


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_few_people_say_nothing_about_the_camera(count):
    sway = sway_of(3.0)
    before = sway.value.copy()
    assert sway.observe(np.full((2, count), 9.0)) is None
    np.testing.assert_array_equal(sway.value, before)


def test_equal_differences_are_no_division_by_zero():
    sway = Sway()
    with np.errstate(all="raise"):
        sway.observe(np.zeros((2, 5)))
        sway.observe(np.ones((2, 5)))
    assert np.isfinite(sway.value).all()


def walk(shake, frames=120, people=6, seed=5):
    """Boxes `(frames, people, 4)` of people who walk, seen by a camera that is shaken."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 2000, (people, 2)) + rng.normal(0, 2, (people, 2)) * np.arange(
        frames
    ).reshape(-1, 1, 1)
    places += np.cumsum(rng.normal(0, shake, (frames, 1, 2)), axis=0)
    places += rng.normal(0, 0.5, places.shape)
    return np.concatenate([places, places + np.array([40, 100])], axis=2)


def test_a_track_without_a_box_moves_with_the_camera():
    """One person is hidden while the camera turns: with the others' motion they are found again."""
    boxes = walk(shake=6.0)
    turn = np.zeros((120, 1, 4))
    turn[100:105] = np.arange(1, 6).reshape(-1, 1, 1) * 12.0
    turn[105:] = 60.0
    boxes = boxes + turn
    tracker = JDETracker(TrackingConfig(), RATE)
    scores = np.full(6, 0.9)
    for number in range(120):
        seen = np.arange(6) if not 100 <= number < 104 else np.arange(5)
        tracks = tracker.update(boxes[number][seen], scores[seen])
    found = dict(zip(tracks.detection_index.tolist(), tracks.track_id.tolist(), strict=True))
    assert found[5] == 6
    assert tracker._store.sway.is_moving


def test_a_state_holds_what_was_learned_of_the_camera():
    boxes, scores = walk(shake=6.0), np.full(6, 0.9)
    whole, first = JDETracker(TrackingConfig(), RATE), JDETracker(TrackingConfig(), RATE)
    for number in range(120):
        want = whole.update(boxes[number], scores)
        if number == 60:
            second = JDETracker(TrackingConfig(), RATE)
            second.set_state(first.get_state())
            first = second
        got = first.update(boxes[number], scores)
        assert got.tlbr.tobytes() == want.tlbr.tobytes()
        assert got.track_id.tolist() == want.track_id.tolist()
    state = whole.get_state()
    assert np.any(state["sway"] != Sway().value)
    with pytest.raises(ValueError, match=r"sway\.shape"):
        first.set_state({**state, "sway": np.zeros(3)})


def test_weak_boxes_without_embeddings_extend_lost_tracks():
    box, strong, weak = np.array([[0.0, 0.0, 50.0, 100.0]]), np.array([0.9]), np.array([0.2])
    for looks, expected in ((None, [1]), (np.ones((1, 4)), [])):
        tracker = JDETracker(TrackingConfig(), RATE)
        for _ in range(3):
            tracker.update(box, strong, looks)
        nobody = np.zeros((0, 4))
        tracker.update(nobody, strong[:0], None if looks is None else looks[:0])
        assert tracker.update(box, weak, looks).track_id.tolist() == expected


def test_detections_without_embeddings_count_from_their_own_score_on():
    config = TrackingConfig()
    assert config.least_blind_score < config.least_score == 0.3
    assert TrackingConfig(mode="published").least_blind_score == config.high_score
    assert TrackingConfig(blind_low_overlap_limit=0.0).least_blind_score == config.high_score

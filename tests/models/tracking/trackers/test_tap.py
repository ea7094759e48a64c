"""TAP's own: patterns that move as one, and settings that are none."""

import numpy as np
import pytest

from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.tap import TapConfig

# five people, no two of whom stand to each other as two others
PLACES = np.array([[100.0, 100], [133, 108], [171, 96], [118, 140], [160, 138]])
SHIFT = np.array([30.0, 3.0])


def boxes_at(centres):
    half = np.array([20.0, 50.0])
    return np.concatenate([centres - half, centres + half], axis=1)


def ids_after_a_jump(**settings):
    """Tracks of the five before and after all move by one vector; their looks are equal."""
    tracker = JDETracker(TapConfig(min_hits=1, **settings), 30.0)
    looks = np.ones((5, 4), np.float32)
    found = []
    for centres in (PLACES, PLACES, PLACES, PLACES + SHIFT):
        tracks = tracker.update(boxes_at(centres), np.full(5, 0.9), looks)
        found.append(dict(zip(tracks.detection_index, tracks.track_id, strict=True)))
    return found[0], found[-1]


def test_a_pattern_moved_by_one_vector_is_matched_rightly_though_all_look_alike():
    before, after = ids_after_a_jump()
    assert after == before


def test_without_edges_the_nearest_would_have_been_taken():
    before, after = ids_after_a_jump(pair_share=0.0, triple_share=0.0)
    assert after != before


def test_a_track_is_confirmed_by_its_third_detection():
    tracker = JDETracker(TapConfig(), 30.0)
    one = boxes_at(PLACES[:1])
    ids = [tracker.update(one, [0.9]).track_id.tolist() for _ in range(4)]
    assert ids == [[], [], [1], [1]]


def test_who_looks_different_is_another_person():
    tracker = JDETracker(TapConfig(min_hits=1), 30.0)
    one, looks = boxes_at(PLACES[:1]), np.eye(2, dtype=np.float32)
    for _ in range(3):
        tracker.update(one, [0.9], looks[:1])
    assert tracker.update(one, [0.9], looks[1:]).track_id.tolist() == [2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dummy_affinity": 0.0}, "dummy_affinity: got 0.0"),
        ({"neighbours": -1}, "neighbours: got -1"),
        ({"least_share": 2.0}, "least_share: got 2.0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TapConfig(**settings)

"""ByteTrack's own: the second pass over weak detections, births, duplicates."""

import numpy as np
import pytest

from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.bytetrack import ByteTrackConfig

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])


def build(**settings_):
    return JDETracker(ByteTrackConfig(**settings_), 30.0)


def step(tracker, boxes, *scores):
    boxes = np.reshape(boxes, (-1, 4))
    tracks = tracker.update(boxes, np.array(scores), np.zeros((len(boxes), 0)))
    return tracks.track_id.tolist()


def test_a_weak_detection_extends_a_track_and_starts_none():
    tracker = build()
    assert step(tracker, BOX, 0.9) == [1]
    for score in (0.5, 0.3, 0.11):
        assert step(tracker, np.concatenate([BOX, BOX + 300]), score, score) == [1]
    assert step(tracker, BOX, 0.09) == []
    assert step(tracker, BOX, 0.9) == [1]


def test_a_lost_track_is_found_by_a_strong_detection_only():
    tracker = build()
    step(tracker, BOX, 0.9)
    step(tracker, BOX[:0])
    assert step(tracker, BOX, 0.5) == []
    assert step(tracker, BOX, 0.9) == [1]


def test_a_detection_between_strong_and_birth_starts_no_track():
    tracker = build()
    step(tracker, BOX[:0])
    assert [step(tracker, BOX, 0.65) for _ in range(3)] == [[]] * 3
    assert [step(tracker, BOX, 0.75) for _ in range(3)] == [[], [1], [1]]
    tracker = build(birth_score=0.6)
    step(tracker, BOX[:0])
    assert [step(tracker, BOX, 0.65) for _ in range(2)] == [[], [1]]


def test_a_newcomer_must_be_seen_twice_in_a_row():
    tracker = build()
    step(tracker, BOX[:0])
    assert [step(tracker, boxes, *[0.9] * len(boxes)) for boxes in (BOX, BOX[:0], BOX, BOX)] == [
        [],
        [],
        [],
        [1],
    ]


@pytest.mark.parametrize(("fused", "expected"), [(True, []), (False, [1])])
def test_fused_scores_make_an_overlap_count_less(fused, expected):
    """IoU 1/3 with score .6: cost .67 without the score, .8 with it."""
    tracker = build(fuse_scores=fused, overlap_limit=0.75, birth_score=0.7)
    step(tracker, BOX, 0.9)
    assert step(tracker, BOX + np.array([20.0, 0, 20.0, 0]), 0.6) == expected


def test_the_buffer_scales_with_the_rate():
    assert ByteTrackConfig().max_lost_frames(15) == 15
    assert ByteTrackConfig(track_buffer=60).max_lost_frames(60) == 120


def test_of_a_tracked_and_a_lost_track_on_one_another_the_younger_goes():
    tracker = build(overlap_limit=0.02)
    for number in range(10):  # an old track, then a jump that it may not follow
        step(tracker, BOX + number * 0.1, 0.9)
    moved = BOX + 3.0
    for _ in range(3):
        found = step(tracker, moved, 0.9)
    assert found == []  # the newcomer lies on the old, lost one

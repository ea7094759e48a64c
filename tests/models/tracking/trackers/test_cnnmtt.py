"""Groups: who is in one, what it remembers, and where it expects its members."""

import numpy as np
import pytest

from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers import cnnmtt
from jde_ray.models.tracking.trackers.cnnmtt import CnnmttConfig

PAIR = np.array([[100.0, 100, 140, 200], [160, 100, 200, 200]])
FAR = np.array([[700.0, 100, 740, 200]])


def follow(tracker, boxes_of, frames):
    for number in range(frames):
        boxes = boxes_of(number)
        tracks = tracker.update(boxes, np.full(len(boxes), 0.9))
    return tracks


def together_of(tracker):
    return cnnmtt.frames_together(tracker._store)


def test_who_walk_side_by_side_for_ten_frames_are_a_group():
    tracker = JDETracker(CnnmttConfig(), 30.0)
    follow(tracker, lambda n: np.concatenate([PAIR, FAR]) + 3 * n * np.array([1, 0, 1, 0]), 11)
    together = together_of(tracker)
    assert together[:2, :2].tolist() == [[0, 10], [10, 0]]
    assert not together[2].any()
    assert cnnmtt.groups(together, 10).tolist() == [0, 0, 1]
    assert len(set(cnnmtt.groups(together, 11).tolist())) == 3


def test_who_pass_one_another_are_none():
    tracker = JDETracker(CnnmttConfig(), 30.0)
    away = np.array([[0.0, 0, 0, 0], [20, 0, 20, 0]])
    start = PAIR - np.array([[0.0, 0, 0, 0], [120, 0, 120, 0]])
    follow(tracker, lambda n: start + n * away, 9)
    assert cnnmtt.groups(together_of(tracker), 4).tolist() == [0, 1]


def test_a_pair_of_which_one_is_hidden_keeps_its_count():
    tracker = JDETracker(CnnmttConfig(), 30.0)
    follow(tracker, lambda _: PAIR, 8)
    follow(tracker, lambda _: PAIR[:1], 3)
    assert together_of(tracker)[0, 1] == 7
    follow(tracker, lambda _: PAIR, 1)
    assert together_of(tracker)[0, 1] == 8


def test_a_group_expects_its_members_where_the_others_have_moved():
    state = kalman.initiate(np.array([[100.0, 150, 400], [100, 100, 100], [0.4] * 3, [80.0] * 3]))
    boxes = np.array([[110.0, 60, 142, 140], [160.0, 60, 192, 140]])  # each 26 to the right
    frame = build_frame(boxes, [0.9, 0.9], None)
    nearness = cnnmtt.group_affinity(
        state, frame, np.array([0, 0, 1]), np.array([0]), np.array([0])
    )
    assert nearness[1] == pytest.approx([np.exp(-((50 / 40) ** 2)), 1.0])
    assert not nearness[0].any()  # the only other one was not matched
    assert not nearness[2].any()  # alone


def test_a_companion_that_has_ended_is_forgotten():
    tracker = JDETracker(CnnmttConfig(track_buffer=2), 30.0)
    follow(tracker, lambda _: PAIR, 6)
    follow(tracker, lambda _: PAIR[:1], 5)
    assert tracker._store.count == 1
    assert together_of(tracker).tolist() == [[0.0]]


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_group_tells_where_its_member_has_gone(share):
    """A stranger of equal looks stands nearer to where the third was than the third does now."""
    third = np.array([[220.0, 100, 260, 200]])
    group = np.concatenate([PAIR, third])
    moved, stranger = group + np.array([24.0, 0, 24, 0]), third - np.array([14.0, 0, 14, 0])
    looks = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    tracker = JDETracker(CnnmttConfig(group_share=share), 30.0)
    for _ in range(15):
        tracker.update(group, np.full(3, 0.9), looks[:3])
    tracks = tracker.update(np.concatenate([moved, stranger]), np.full(4, 0.9), looks)
    taken = dict(zip(tracks.track_id.tolist(), tracks.detection_index.tolist(), strict=True))
    assert taken[3] == (2 if share else 3)


@pytest.mark.parametrize("name", ["look_share", "group_share", "least_affinity"])
def test_shares_lie_between_0_and_1(name):
    with pytest.raises(ValueError, match=f"{name}: got 1.5"):
        CnnmttConfig(**{name: 1.5})

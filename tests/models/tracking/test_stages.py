"""Matching by looks: who overlaps and looks alike comes first."""

import numpy as np
import pytest

from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.stages import LookLimits, match_looks
from jde_ray.models.tracking.track import LOST, TRACKED, TrackStore
from jde_ray.models.tracking.tracker import JDETracker

BOX = np.array([100.0, 100.0, 140.0, 200.0])
RIGHT = np.array([1.0, 0.0, 1.0, 0.0])


def vector(angle):
    return np.array([np.cos(angle), np.sin(angle)])


def frame_of(*people):
    """A frame of (shift to the right, angle of the embedding) pairs."""
    boxes = np.stack([BOX + shift * RIGHT for shift, _ in people])
    vectors = np.stack([vector(angle) for _, angle in people])
    return build_frame(boxes, np.full(len(people), 0.9), vectors)


def matched(tracks, detections, *, status=TRACKED, sure_overlap=0.5, limit=0.7):
    """Pairs of (track, detection); both are given as in `frame_of`."""
    store = TrackStore(2)
    born = frame_of(*tracks)
    store.append(born, np.arange(len(born)), store.take_ranks(len(born)), TRACKED, 1.0)
    store.status[: len(born)] = status
    frame = frame_of(*detections)
    everyone = np.ones(len(born), np.bool_), np.ones(len(frame), np.bool_)
    variance = kalman.innovation_variance(store.state[:, : len(born)])
    limits = LookLimits(limit, 0.01, sure_overlap, None)
    pairs = match_looks(store, frame, variance, everyone, limits)
    return sorted(zip(*(index.tolist() for index in pairs), strict=True))


def test_a_lost_look_alike_does_not_take_the_detection_of_a_track_on_it():
    """The lost one looks better; appearance alone would prefer it and lose the tracked one."""
    tracks, status = [(0, 0.3), (8, 0.0)], np.array([TRACKED, LOST])
    assert matched(tracks, [(1, 0.0)], status=status) == [(0, 0)]
    assert matched(tracks, [(1, 0.0)], status=status, sure_overlap=1.0) == [(1, 0)]


def test_two_on_one_another_whose_looks_agree_keep_their_own():
    assert matched([(0, 0.0), (9, 0.6)], [(1, 0.25), (10, 0.35)]) == [(0, 0), (1, 1)]


def test_overlap_does_not_bind_who_looks_like_somebody_else():
    """Two people have changed places: both look alike only with the other box."""
    assert matched([(0, 0.0), (9, 1.5)], [(0, 1.5), (9, 0.0)]) == [(0, 1), (1, 0)]


def test_nobody_is_matched_above_the_limit_or_outside_the_gate():
    assert matched([(0, 0.0)], [(0, 1.0)]) == []
    assert matched([(0, 0.0)], [(200, 0.0)]) == []
    assert matched([(0, 0.0)], [(0, 1.0)], limit=1.2) == [(0, 0)]


@pytest.mark.parametrize("seed", range(20))
def test_a_track_and_a_detection_are_matched_once(seed):
    rng = np.random.default_rng(seed)
    tracks, found = (
        list(zip(rng.uniform(0, 60, n), rng.uniform(0, 1, n), strict=True)) for n in (9, 11)
    )
    status = rng.choice([TRACKED, LOST], 9)
    pairs = matched(tracks, found, status=status, limit=0.9)
    assert pairs
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(side)


@pytest.mark.parametrize(
    ("rate", "angle", "expected"),
    [(7.0, 0.1, [1]), (7.0, 1.5, []), (30.0, 0.1, [])],
    ids=["alike", "another", "at full rate"],
)
def test_at_a_low_rate_who_turns_within_a_frame_is_found_if_they_look_alike(rate, angle, expected):
    """A jump of most of a width is outside the motion gate, whose noise is that of a frame."""
    tracker = JDETracker(TrackingConfig(), rate)
    for _ in range(25):
        frame = frame_of((0, 0.0))
        tracker.update(frame.tlbr.T, frame.scores, frame.embeddings)
    frame = frame_of((-28, angle))
    tracks = tracker.update(frame.tlbr.T, frame.scores, frame.embeddings)
    assert tracks.track_id.tolist() == expected

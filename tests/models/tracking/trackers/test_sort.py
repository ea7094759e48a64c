"""SORT against a plain loop with one filterpy object a track, and its rules on small scenes."""

import lap
import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.synthetic.embedding_scenes import EmbeddingScene, build_scene
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.sort import SortConfig

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])


def to_measurement(box):
    width, height = box[2] - box[0], box[3] - box[1]
    centre = (box[:2] + box[2:]) / 2
    return np.array([*centre, width * height, width / height])[:, None]


class PlainTrack:
    def __init__(self, box):
        self.filter = KalmanFilter(dim_x=7, dim_z=4)
        self.filter.F = np.eye(7) + np.eye(7, k=4)
        self.filter.H = np.eye(4, 7)
        self.filter.R = np.diag([1.0, 1, 10, 10])
        self.filter.P = np.diag([10.0] * 4 + [1e4] * 3)
        self.filter.Q = np.diag([1.0, 1, 1, 1, 0.01, 0.01, 0.0001])
        self.filter.x[:4] = to_measurement(box)
        self.misses = self.streak = 0

    @property
    def box(self):
        x, y, area, aspect = self.filter.x[:4, 0]
        width = np.sqrt(area * aspect)
        half = np.array([width, area / width]) / 2
        return np.array([x - half[0], y - half[1], x + half[0], y + half[1]])

    def predict(self):
        if self.filter.x[2, 0] + self.filter.x[6, 0] <= 0:
            self.filter.x[6, 0] = 0
        self.filter.predict()
        if self.misses:
            self.streak = 0
        self.misses += 1

    def take(self, box):
        self.filter.update(to_measurement(box))
        self.misses, self.streak = 0, self.streak + 1


class PlainSort:
    """SORT as its paper tells it, written plainly."""

    def __init__(self, buffer=1, min_hits=3, limit=0.7):
        self.tracks, self.frame = [], 0
        self.buffer, self.min_hits, self.limit = buffer, min_hits, limit

    def update(self, boxes):
        self.frame += 1
        for track in self.tracks:
            track.predict()
        free = set(range(len(boxes)))
        owner = {}
        if self.tracks and len(boxes):
            cost = 1 - iou_matrix(np.stack([t.box for t in self.tracks]), boxes)
            rows = lap.lapjv(cost, extend_cost=True, cost_limit=self.limit)[1]
            for track, column in zip(self.tracks, rows, strict=True):
                if column >= 0:
                    track.take(boxes[column])
                    owner[int(column)] = track
                    free.discard(int(column))
        for column in sorted(free):
            owner[column] = PlainTrack(boxes[column])
            self.tracks.append(owner[column])
        self.tracks = [track for track in self.tracks if track.misses <= self.buffer]
        is_early = self.frame <= self.min_hits
        return {c: t for c, t in owner.items() if is_early or t.streak >= self.min_hits}


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000), st.sampled_from([1, 3, 10]), st.integers(1, 4), st.sampled_from([0, 0.3])
)
def test_it_equals_the_plain_loop(seed, buffer, min_hits, miss):
    scene = EmbeddingScene(seed, 9, 30, embedding_dim=1, width=500, height=400, miss=miss)
    config = SortConfig(track_buffer=buffer, min_hits=min_hits, high_score=0.0)
    fast, plain = JDETracker(config, 30.0), PlainSort(buffer, min_hits)
    same: dict[int, PlainTrack] = {}
    for frame in build_scene(scene):
        boxes = frame.tlbr.astype(np.float64)
        tracks = fast.update(boxes, frame.scores, np.zeros((len(frame), 0)))
        expected = plain.update(boxes)
        assert sorted(tracks.detection_index) == sorted(expected)
        for row, column in enumerate(tracks.detection_index):
            track = expected[int(column)]
            assert same.setdefault(int(tracks.track_id[row]), track) is track
            np.testing.assert_allclose(tracks.tlbr[row], track.box, rtol=0, atol=1e-6)


def seen(tracker, present):
    """Ids reported while one person stands still, seen or not."""
    ids = []
    for is_there in present:
        boxes = BOX if is_there else BOX[:0]
        scores, looks = np.full(len(boxes), 0.9), np.zeros((len(boxes), 0))
        ids.append(tracker.update(boxes, scores, looks).track_id.tolist())
    return ids


def test_a_newcomer_is_reported_after_three_matches_and_everybody_at_the_start():
    assert seen(JDETracker(SortConfig(), 30.0), [1] * 5) == [[1]] * 5
    late = seen(JDETracker(SortConfig(), 30.0), [0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert late == [[]] * 7 + [[1]] * 2


def test_one_miss_is_forgiven_and_two_end_a_track():
    once = seen(JDETracker(SortConfig(), 30.0), [1] * 6 + [0] + [1] * 4)
    assert once[6:] == [[], [], [], [1], [1]]
    twice = seen(JDETracker(SortConfig(), 30.0), [1] * 6 + [0, 0] + [1] * 4)
    assert twice[6:] == [[]] * 5 + [[2]]


def test_an_area_that_would_vanish_stays():
    tracker = JDETracker(SortConfig(track_buffer=100), 30.0)
    for size in (400, 200, 100, 50, 25, 12, 6):
        box = np.array([[0.0, 0.0, size, size]])
        tracks = tracker.update(box, [0.9], np.zeros((1, 0)))
    for _ in range(50):
        tracks = tracker.update(BOX[:0], [], np.zeros((0, 0)))
    assert len(tracks) == 0
    assert np.isfinite(tracker._store.boxes(np.arange(tracker._store.count))).all()


@pytest.mark.parametrize("dt", [2, 5])
def test_a_long_step_is_as_many_short_ones(dt):
    from jde_ray.models.tracking import area_kalman

    rng = np.random.default_rng(0)
    one = area_kalman.initiate(rng.uniform(50, 100, (4, 3)))
    one[4:7] = rng.uniform(-1, 1, (3, 3))
    many = one.copy()
    area_kalman.predict(one, dt)
    for _ in range(dt):
        area_kalman.predict(many, 1.0)
    np.testing.assert_allclose(one, many, rtol=1e-12)

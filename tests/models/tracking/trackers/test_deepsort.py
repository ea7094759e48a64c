"""DeepSORT's own: the cascade by age, the gallery, the gate; motion alone without embeddings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.registry import build_store
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.deepsort import GALLERY, DeepSortConfig, gallery_distance

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
LOOKS = np.eye(4, dtype=np.float32)


def build(**settings_):
    return JDETracker(DeepSortConfig(**settings_), 30.0)


def step(tracker, boxes, looks):
    boxes = np.reshape(boxes, (-1, 4))
    looks = looks if np.ndim(looks) == 2 else np.reshape(looks, (1, -1))
    return tracker.update(boxes, np.full(len(boxes), 0.9), looks)


def test_a_track_is_confirmed_by_its_third_detection_and_a_miss_before_ends_it():
    tracker = build()
    ids = [step(tracker, BOX, LOOKS[:1]).track_id.tolist() for _ in range(4)]
    assert ids == [[], [], [1], [1]]
    tracker = build()
    for boxes in (BOX, BOX, BOX[:0], BOX, BOX):
        assert len(step(tracker, boxes, LOOKS[: len(boxes)])) == 0
    assert step(tracker, BOX, LOOKS[:1]).track_id.tolist() == [1]


def test_appearance_tells_apart_who_swaps_places_behind_an_obstacle():
    tracker = build()
    both = np.concatenate([BOX, BOX + 6])
    for _ in range(5):
        tracks = step(tracker, both, LOOKS[:2])
    before = dict(zip(tracks.detection_index, tracks.track_id, strict=True))
    for _ in range(3):
        step(tracker, BOX[:0], LOOKS[:0])
    tracks = step(tracker, both[::-1], LOOKS[:2])
    assert dict(zip(tracks.detection_index, tracks.track_id, strict=True)) == before


def test_beyond_the_gate_appearance_does_not_count():
    tracker = build()
    for _ in range(5):
        step(tracker, BOX, LOOKS[:1])
    assert len(step(tracker, BOX + 500, LOOKS[:1])) == 0


def test_who_was_seen_last_chooses_first():
    """A lost track that looks more like the detection does not get it before one seen just now."""
    tracker = build(appearance_limit=0.9)
    lost_look, recent_look = LOOKS[0], (LOOKS[0] + LOOKS[1]) / np.sqrt(2)
    near = BOX + 4
    for _ in range(4):
        tracks = step(tracker, np.concatenate([BOX, near]), np.stack([lost_look, recent_look]))
    assert tracks.track_id.tolist() == [1, 2]
    for _ in range(3):
        tracks = step(tracker, near, recent_look)
        assert tracks.track_id.tolist() == [2]
    assert step(tracker, near, lost_look).track_id.tolist() == [2]


def test_a_confirmed_track_is_kept_for_its_time_and_no_longer():
    for gap, expected in ((9, [1]), (11, [])):
        tracker = build(track_buffer=10)
        for _ in range(5):
            step(tracker, BOX, LOOKS[:1])
        for _ in range(gap):
            step(tracker, BOX[:0], LOOKS[:0])
        assert step(tracker, BOX, LOOKS[:1]).track_id.tolist() == expected


def test_without_embeddings_motion_finds_a_lost_person_again():
    tracker = build()
    blind = np.zeros((1, 0))
    for number in range(10):
        tracks = step(tracker, BOX + np.array([3.0, 0, 3.0, 0]) * number, blind)
    for _ in range(8):
        step(tracker, BOX[:0], blind[:0])
    tracks = step(tracker, BOX + np.array([3.0, 0, 3.0, 0]) * 18, blind)
    assert tracks.track_id.tolist() == [1]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2 * GALLERY + 5), st.integers(0, 100))
def test_the_distance_is_the_smallest_to_the_last_hundred_embeddings(num_seen, seed):
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(num_seen, 6)).astype(np.float32)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    store = build_store(DeepSortConfig(), 6)
    nowhere = np.array([0])
    for number, look in enumerate(looks):
        frame = build_frame(BOX, np.array([0.9]), look[None])
        if number == 0:
            store.append(frame, nowhere, store.take_ranks(1), 0, 1.0)
        else:
            variance = kalman.innovation_variance(store.state[:, :1])
            store.absorb(frame, nowhere, nowhere, variance, 0.0, 1.0 + number)
    asked = rng.normal(size=(3, 6)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    expected = 1 - (looks[-GALLERY:] @ asked.T).max(axis=0)
    found = gallery_distance(store, nowhere, asked)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


@pytest.mark.parametrize("number", [70, 200])
def test_galleries_move_with_their_tracks_when_the_table_grows_and_shrinks(number):
    store = build_store(DeepSortConfig(), 4)
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(number, 4)).astype(np.float32)
    boxes = BOX + rng.uniform(0, 900, (number, 1))
    frame = build_frame(boxes, np.full(number, 0.9), looks)
    half = number // 2
    for part in (np.arange(half), np.arange(half, number)):
        store.append(frame, part, store.take_ranks(len(part)), 0, 1.0)
    store.remove(np.arange(number) % 3 == 0)
    for column in range(store.count):
        source = int(store.detection[column])
        np.testing.assert_array_equal(store.gallery[column, 0], frame.embeddings[source])


def test_a_column_that_is_used_again_keeps_nothing_of_its_former_track():
    store = build_store(DeepSortConfig(), 4)
    frame = build_frame(BOX, np.array([0.9]), LOOKS[:1])
    only = np.array([0])
    store.append(frame, only, store.take_ranks(1), 0, 1.0)
    store.absorb(frame, only, only, kalman.innovation_variance(store.state[:, :1]), 0.0, 2.0)
    store.remove(np.array([True]))
    store.append(frame, only, store.take_ranks(1), 0, 3.0)
    assert not store.get_state()["gallery"][0, 1:].any()

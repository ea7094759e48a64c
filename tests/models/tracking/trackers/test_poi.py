"""POI's own: affinities by hand, the quality of a track, and who chooses first."""

import numpy as np
import pytest

from jde_ray.models.structures import Detections
from jde_ray.models.synthetic.embedding_scenes import SCENES, build_scene
from jde_ray.models.tracking.affinity import look_affinity, place_affinity, shape_affinity
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.registry import build_store
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers import poi
from jde_ray.models.tracking.trackers.poi import PoiConfig

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
LOOKS = np.eye(4, dtype=np.float32)


def step(tracker, boxes, looks=None, quality=None):
    boxes = np.reshape(boxes, (-1, 4))
    return tracker.update(boxes, np.full(len(boxes), 0.9), looks, quality=quality)


def frame_of(boxes, looks=None):
    boxes = np.reshape(boxes, (-1, 4))
    return build_frame(boxes, np.full(len(boxes), 0.9), looks)


def test_the_affinities_of_a_pair_by_hand():
    """A track of 40x100 at (120, 150); a detection of 50x125, a width and a height away."""
    xyah = np.array([[120.0], [150.0], [0.4], [100.0]])
    other = [[120 + 50 - 25, 150 + 125 - 62.5, 120 + 50 + 25, 150 + 125 + 62.5]]
    frame = frame_of(other, np.array([[3.0, 4.0]]))
    assert place_affinity(xyah, frame, 0.5) == pytest.approx(np.exp(-0.5 * 2))
    unlike = 25 / 225 + 10 / 90
    assert shape_affinity(xyah, frame, 1.5) == pytest.approx(np.exp(-1.5 * unlike))
    looks = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    assert look_affinity(looks, frame).ravel() == pytest.approx([0.6, 0.0])
    assert look_affinity(looks[:, :0], frame_of(other)).tolist() == [[1.0], [1.0]]


def test_the_quality_of_a_track_is_that_of_its_matches_and_its_length():
    store = build_store(PoiConfig(), 0)
    store.append(frame_of([BOX[0], BOX[0], BOX[0]]), np.arange(3), store.take_ranks(3), 0, 1.0)
    store.hits[:3] = 1, 5, 5
    store.extra[0, :3] = 0.0, 4 * 0.9, 4 * 0.3
    good = 1 - np.exp(-1.2 * np.sqrt(5))
    assert poi.qualities(store, PoiConfig()) == pytest.approx([0.0, 0.9 * good, 0.3 * good])


def test_the_sum_of_affinities_grows_with_every_match():
    tracker = JDETracker(PoiConfig(), 30.0)
    for expected in (0.0, 1.0, 2.0):
        step(tracker, BOX, LOOKS[:1])
        assert tracker._store.extra[0, 0] == pytest.approx(expected)


def test_a_good_track_chooses_before_a_new_one_that_fits_better():
    tracker = JDETracker(PoiConfig(), 30.0)
    for _ in range(6):
        step(tracker, BOX, LOOKS[:1])
    both = np.concatenate([BOX, BOX + np.array([8, 0, 8, 0])])
    looks = np.stack([LOOKS[0], (LOOKS[0] + LOOKS[1]) / np.sqrt(2)])
    step(tracker, both, looks)
    tracks = step(tracker, both[1:], (LOOKS[:1] + 0.9 * LOOKS[1:2]))
    assert tracks.track_id.tolist() == [1]


def test_pairs_below_the_least_affinity_are_no_match():
    affinity = np.array([[0.4, 0.39], [0.1, 0.39]])
    rows, columns = poi.match_affinity(affinity, 0.4)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def test_equal_sightings_give_the_mean_in_any_order():
    """Set features with equal qualities."""
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        tracker = JDETracker(PoiConfig(least_affinity=0.0), 30.0)
        looks = np.array([[1, 0.2, 0], [1, 0, 0.2], [1, 0.1, 0.1]], np.float32)
        looks /= np.linalg.norm(looks, axis=1, keepdims=True)
        for number in order:
            step(tracker, BOX, looks[number : number + 1])
        found.append(tracker._store.embeddings[0].copy())
        mean = looks.sum(axis=0)
        np.testing.assert_allclose(found[-1], mean / np.linalg.norm(mean), atol=2e-3)
    np.testing.assert_allclose(*found, atol=2e-3)


def feature_after(looks, quality, order):
    """A track's embedding after these sightings in an order."""
    tracker = JDETracker(PoiConfig(least_affinity=0.0), 30.0)
    for number in order:
        told = None if quality is None else quality[number : number + 1]
        step(tracker, BOX, looks[number : number + 1], told)
    assert (tracker._store.count, tracker._store.hits[0]) == (1, len(order))
    return tracker._store.embeddings[0].copy()


def sightings():
    looks = np.random.default_rng(4).normal(size=(5, 8)).astype(np.float32) + 0.5
    return looks / np.linalg.norm(looks, axis=1, keepdims=True)


def test_a_track_is_the_mean_of_its_pictures_weighted_by_quality_in_any_order():
    looks, quality = sightings(), np.array([0.9, 0.05, 0.4, 0.6, 0.2])
    for weights in (quality, np.full(5, 0.5)):
        mean = (looks * weights[:, None]).sum(axis=0)
        for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
            found = feature_after(looks, weights, order)
            np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


def test_a_picture_of_quality_0_has_no_effect_even_as_the_first():
    looks, quality = sightings(), np.array([0.9, 0.5, 0.0, 0.7, 0.3])
    expected = feature_after(looks, quality, [0, 1, 3, 4])
    for order in ([0, 1, 2, 3, 4], [2, 0, 1, 3, 4], [2, 0, 1, 3, 2, 4, 2]):
        np.testing.assert_array_equal(feature_after(looks, quality, order), expected)


def test_without_qualities_the_last_mean_counts_as_many_as_it_had():
    looks = sightings()
    found, mean = feature_after(looks, None, range(5)), looks[0]
    for number in range(1, 5):
        mean = mean * np.float32(number) + looks[number]
        mean /= np.linalg.norm(mean)
    np.testing.assert_allclose(found, mean, atol=1e-6)


def crowd():
    """Frames of a crowd with qualities: of the first 30, and of the rest."""
    rng, frames = np.random.default_rng(0), build_scene(SCENES["crossing"])[:60]
    told = [
        Detections(one.tlbr, one.scores, one.embeddings.astype(np.float16), quality)
        for one in frames
        for quality in [rng.uniform(0, 1, len(one)).astype(np.float32)]
    ]
    return told[:30], told[30:]


def follow(tracker, frames):
    return [
        tracker.update(one.tlbr, one.scores, one.embeddings.astype(np.float32), quality=one.quality)
        for one in frames
    ]


def test_a_restored_track_goes_on_with_its_sum():
    before, after = crowd()
    tracker, other = (JDETracker(PoiConfig(), 30.0) for _ in range(2))
    follow(tracker, before)
    other.set_state(tracker.get_state())
    assert (tracker._store.extra[1, : tracker._store.count] > 0).all()
    for want, got in zip(follow(tracker, after), follow(other, after), strict=True):
        np.testing.assert_array_equal(got.track_id, want.track_id)
    want, got = tracker.get_state(), other.get_state()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_a_state_without_the_sum_is_refused():
    tracker = JDETracker(PoiConfig(), 30.0)
    step(tracker, BOX, LOOKS[:1])
    state = tracker.get_state()
    state["table"] = state["table"][:-1]
    with pytest.raises(ValueError, match="tracker state: got 1 numbers per track, expected 2"):
        tracker.set_state(state)


def test_frames_prepared_together_have_their_qualities():
    found, _ = crowd()
    found[7] = found[7][:0]
    one_by_one, together = (JDETracker(PoiConfig(), 30.0) for _ in range(2))
    follow(one_by_one, found)
    for frame, one in zip(together.prepare(found), found, strict=True):
        together.advance(frame, None, None, is_of_nobody=not len(one))
    want, got = one_by_one.get_state(), together.get_state()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ([0.5, 0.5], r"quality: got shape \(2,\), expected \(1,\)"),
        ([-0.5], "quality: got -0.5 in row 0, expected 0 or more"),
        ([np.nan], "quality: got nan in row 0"),
    ],
)
def test_wrong_qualities_are_refused(quality, message):
    tracker = JDETracker(PoiConfig(), 30.0)
    with pytest.raises(ValueError, match=message):
        step(tracker, BOX, LOOKS[:1], np.array(quality))
    odd = Detections(BOX, np.array([0.9]), LOOKS[:1], np.resize(quality, 1))
    assert tracker.prepare([odd]) is None or len(quality) == 2


def test_one_that_was_seen_once_and_missed_is_forgotten_and_one_seen_twice_is_not():
    tracker = JDETracker(PoiConfig(), 30.0)
    step(tracker, BOX)
    step(tracker, BOX[:0])
    assert tracker._store.count == 0
    for boxes in (BOX, BOX, BOX[:0], BOX[:0]):
        step(tracker, boxes)
    assert step(tracker, BOX).track_id.tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_hits": 0}, "min_hits: got 0"),
        ({"least_affinity": 1.2}, "least_affinity: got 1.2"),
        ({"motion_weight": -1.0}, "motion_weight: got -1.0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PoiConfig(**settings)

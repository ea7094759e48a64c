"""What holds for every association by name: identities, bounds, state, refusals."""

import pickle
from typing import Literal, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_weights import needed
from tracker_checks import check_ids, check_order

from jde_ray.models.synthetic.embedding_scenes import SCENES, EmbeddingScene, build_scene
from jde_ray.models.tracking.registry import ASSOCIATIONS, CONFIGS, AssociationConfig, build_config
from jde_ray.models.tracking.tracker import JDETracker

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
OTHERS = [name for name in CONFIGS if name != "jde"]


def build(name, **settings_):
    return JDETracker(build_config(name, **needed(name), **settings_), frames_per_second=30)


def follow(tracker, frames, width=None):
    """Ids and boxes of every frame."""
    found = []
    for frame in frames:
        looks = frame.embeddings if width is None else frame.embeddings[:, :width]
        found.append(tracker.update(frame.tlbr, frame.scores, looks))
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(OTHERS),
    st.integers(0, 1000),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.4]),
    st.booleans(),
)
def test_ids_are_new_once_and_a_detection_belongs_to_one_track(name, seed, buffer, miss, blind):
    scene = EmbeddingScene(seed, 10, 25, embedding_dim=8, width=500, height=400, miss=miss)
    frames = build_scene(scene)
    found = follow(build(name, track_buffer=buffer), frames, 0 if blind else None)
    # a track of SORT is reported again some matches after it was found again
    check_ids(frames, found, longest_gap=None if name == "sort" else buffer + 1)
    assert all((tracks.tlbr[:, 2:] > tracks.tlbr[:, :2]).all() for tracks in found)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(OTHERS), st.integers(0, 1000))
def test_the_order_of_detections_does_not_matter_but_for_the_numbers(name, seed):
    scene = build_scene(EmbeddingScene(seed, 8, 20, embedding_dim=16, width=600, height=400))
    check_order(build(name), build(name), scene, seed)


@pytest.mark.parametrize("name", OTHERS)
def test_state_taken_from_a_pickle_goes_on_as_if_nothing_had_happened(name):
    frames = build_scene(SCENES["crossing"])[:70]
    tracker = build(name)
    follow(tracker, frames[:40])
    resumed = pickle.loads(pickle.dumps(tracker))  # noqa: S301
    for want, got in zip(follow(tracker, frames[40:]), follow(resumed, frames[40:]), strict=True):
        np.testing.assert_array_equal(got.track_id, want.track_id)
        np.testing.assert_array_equal(got.tlbr, want.tlbr)


@pytest.mark.parametrize("name", OTHERS)
def test_time_stamps_of_a_constant_rate_change_nothing(name):
    plain, timed = build(name), build(name)
    for number, frame in enumerate(build_scene(SCENES["crossing"])[:40]):
        want = plain.update(frame.tlbr, frame.scores, frame.embeddings)
        stamp = round(number / 30, 3)
        got = timed.update(frame.tlbr, frame.scores, frame.embeddings, time_s=stamp)
        np.testing.assert_array_equal(got.track_id, want.track_id)
        np.testing.assert_array_equal(got.tlbr, want.tlbr)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "poi"])
def test_qualities_of_pictures_are_for_poi(name):
    plain, told = build(name), build(name)
    rng = np.random.default_rng(0)
    for frame in build_scene(SCENES["crossing"])[:20]:
        quality = rng.uniform(0, 1, len(frame))
        plain.update(frame.tlbr, frame.scores, frame.embeddings)
        told.update(frame.tlbr, frame.scores, frame.embeddings, quality=quality)
    want, got = plain.get_state(), told.get_state()
    for array in want:
        np.testing.assert_array_equal(got[array], want[array])


@pytest.mark.parametrize("name", OTHERS)
def test_empty_frames_and_boxes_without_area_are_no_reason_to_stop(name):
    tracker = build(name)
    for boxes in (BOX[:0], BOX, BOX[:0], np.array([[5.0, 5, 5, 9]]), BOX):
        tracker.update(boxes, np.full(len(boxes), 0.9), np.zeros((len(boxes), 4)))
    assert (tracker.num_frames, tracker.num_degenerate) == (5, 1)


@pytest.mark.parametrize("name", OTHERS)
def test_a_long_video_needs_no_more_memory_than_a_short_one(name):
    tracker, rng = build(name), np.random.default_rng(12)
    looks = rng.normal(size=(50, 1, 4)).astype(np.float32)
    boxes = BOX + rng.uniform(0, 900, (50, 1, 1))
    for frame in range(1_500):
        person = frame // 5 % 50
        tracker.update(boxes[person], np.array([0.9]), looks[person])
        if frame == 700:
            capacity = tracker._store.capacity
    assert tracker._store.capacity == capacity


def test_every_association_is_one_whole_row():
    """A row that forgets something is refused by Python; this is what a row says twice."""
    assert [row.config for row in ASSOCIATIONS.values()] == list(get_args(AssociationConfig))
    for name, row in ASSOCIATIONS.items():
        config = row.config()
        assert (
            get_type_hints(row.config)["association"]
            == Literal[name]
            == Literal[config.association]
        )
        assert 0 <= config.least_score <= config.high_score <= 1
        assert config.max_lost_frames(30.0) == config.max_lost_frames(30) >= 0
        store = JDETracker(build_config(name, **needed(name)), 30.0)
        store.update(np.zeros((1, 4)), [1.0], np.zeros((1, 2)))
        assert store._store.motion is row.motion
        assert store._store.gallery.shape[1] == row.gallery
        assert len(store._store.extra) == row.extra


@pytest.mark.parametrize("name", CONFIGS)
def test_least_score_is_what_changes_tracks(name):
    """Detections below it change nothing, so that a detector need not hand them over."""
    least = build_config(name).least_score
    frames = build_scene(SCENES["crossing"])[:50]
    rng = np.random.default_rng(3)
    scores = [rng.uniform(0, 1, len(frame)).astype(np.float32) for frame in frames]
    whole, cut = build(name), build(name)
    for frame, score in zip(frames, scores, strict=True):
        keep = score >= least
        want = whole.update(frame.tlbr, score, frame.embeddings)
        got = cut.update(frame.tlbr[keep], score[keep], frame.embeddings[keep])
        np.testing.assert_array_equal(got.track_id, want.track_id)
        np.testing.assert_array_equal(got.tlbr, want.tlbr)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"association": "botsort"}, r"association.*'botsort'.*jde \| sort \| deepsort"),
        ({"association": "sort", "appearance_limit": 0.2}, "appearance_limit: no setting.*sort"),
        ({"association": "bytetrack", "mode": "published"}, "mode: no setting.*bytetrack"),
        ({"association": "sort", "overlap_limit": 2.0}, "overlap_limit: got 2.0"),
        ({"association": "deepsort", "min_hits": 0}, "min_hits: got 0"),
        ({"association": "bytetrack", "low_score": -1}, "low_score: got -1"),
        ({"association": "deepsort", "high_score": 1.5}, "conf: got 1.5"),
        ({"track_buffer": "a"}, "track_buffer: got 'a', expected a whole number, 0 to 1000000"),
        ({"track_buffer": 1.5}, "track_buffer: got 1.5, expected a whole number, 0 to 1000000"),
        ({"track_buffer": True}, "track_buffer: got True, expected a whole number, 0 to 1000000"),
        ({"high_score": None}, "conf: got None, expected a number, 0.0 to 1.0"),
        ({"birth_score": "x"}, "birth_score: got 'x', expected a number, 0.0 to 1.0"),
        ({"overlap_limit": True}, "overlap_limit: got True, expected a number, 0.0 to 1.0"),
        (
            {"association": "sort", "track_buffer": None},
            "track_buffer: got None, expected a whole number, 0 to",
        ),
        ({"association": "bytetrack", "fuse_scores": "a"}, "fuse_scores: got 'a', expected true"),
    ],
)
def test_settings_that_are_none_are_refused_by_name(settings_, message):
    with pytest.raises(ValueError, match=message):
        build_config(**settings_)


def test_numbers_of_other_libraries_are_numbers():
    config = build_config(track_buffer=np.int64(30), high_score=np.float32(0.5), birth_score=1)
    assert config.track_buffer == 30


PAN = np.array([[1.0, 0.0, 70.0], [0.0, 1.0, 0.0]])  # farther than a box is wide


def moved_by(pan, number):
    return BOX + pan * number * np.array([1.0, 0, 1.0, 0])


@pytest.mark.parametrize("name", ASSOCIATIONS)
def test_who_stands_in_a_pan_keeps_the_id_if_the_motion_is_known(name):
    def ids(camera_motion):
        tracker = build(name)
        for _ in range(4):
            tracker.update(BOX, [0.9])
        tracks = [
            tracker.update(moved_by(70, step), [0.9], camera_motion=camera_motion)
            for step in range(1, 6)
        ]
        return {track_id for found in tracks for track_id in found.track_id.tolist()}

    assert ids(PAN) == {1}
    assert ids(None) != {1}


@pytest.mark.parametrize("name", ASSOCIATIONS)
def test_the_identity_changes_nothing_bit_for_bit(name):
    frames = build_scene(SCENES["crossing"])[:60]
    plain, still = build(name), build(name)
    for frame in frames:
        one = plain.update(frame.tlbr, frame.scores, frame.embeddings)
        other = still.update(frame.tlbr, frame.scores, frame.embeddings, camera_motion=np.eye(2, 3))
        assert one.tlbr.tobytes() == other.tlbr.tobytes()
        assert one.track_id.tolist() == other.track_id.tolist()


def test_the_published_mode_ignores_the_camera():
    frames = build_scene(SCENES["crossing"])[:40]
    plain, moving = build("jde", mode="published"), build("jde", mode="published")
    for frame in frames:
        one = plain.update(frame.tlbr, frame.scores, frame.embeddings)
        other = moving.update(frame.tlbr, frame.scores, frame.embeddings, camera_motion=PAN)
        assert one.tlbr.tobytes() == other.tlbr.tobytes()


@pytest.mark.parametrize(
    "wrong", [np.eye(3), np.full((2, 3), np.nan), np.zeros((2, 3))], ids=["shape", "nan", "flat"]
)
def test_a_motion_that_is_none_is_refused(wrong):
    tracker = build("sort")
    with pytest.raises(ValueError, match="camera_motion: got"):
        tracker.update(BOX, [0.9], camera_motion=wrong)
    assert tracker.num_frames == 0

"""A tracker's state as plain arrays: kept, put back, and tracking on as if nothing had happened."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_weights import needed

from jde_ray.models.synthetic.embedding_scenes import SCENES, build_scene
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.track import TrackStore
from jde_ray.models.tracking.tracker import JDETracker

MODES = ["default", "published", "sort", "deepsort", "bytetrack", "cbiou", "poi", "cnnmtt", "ran"]
RATE = 30.0


def build(mode="default", rate=RATE, **settings_):
    ours = {"association": "jde", "mode": mode} if mode in MODES[:2] else {"association": mode}
    return JDETracker(build_config(**ours, **needed(mode), **settings_), rate)


def through_a_file(state):
    """As a checkpoint does: npz, nothing pickled."""
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def assert_equal_tracks(got, want):
    for name in ("track_id", "tlbr", "score", "detection_index"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


@st.composite
def interrupted_videos(draw):
    """Frames of a crowd that comes and goes, their times, and after which frames it is cut."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_people, num_frames = draw(st.integers(0, 90)), draw(st.integers(1, 30))
    dim, presence = draw(st.sampled_from([0, 4, 16])), draw(st.floats(0.2, 1.0))
    start, speed = rng.uniform(0, 900, (num_people, 2)), rng.normal(0, 4, (num_people, 2))
    looks = rng.normal(size=(num_people, dim))
    frames = []
    for number in range(num_frames):
        seen = rng.random(num_people) < presence
        corner = (start + speed * number)[seen]
        boxes = np.concatenate([corner, corner + rng.uniform(20, 90, corner.shape)], axis=1)
        boxes[rng.random(len(boxes)) < 0.03, 2:] = 0  # no area
        look = (looks[seen] + rng.normal(0, 0.3, (len(boxes), dim))).astype(np.float32)
        frames.append((boxes, rng.uniform(0.2, 1.0, len(boxes)), look))
    times = np.cumsum(rng.choice([0.5, 1.0, 1.0, 2.5], num_frames)) / RATE
    cuts = draw(st.sets(st.integers(0, num_frames), max_size=4))
    return frames, times if draw(st.booleans()) else [None] * num_frames, cuts


@pytest.mark.filterwarnings("ignore:boxes")
@settings(max_examples=60, deadline=None)
@given(interrupted_videos(), st.sampled_from(MODES), st.sampled_from([0, 3, 60]))
def test_a_restored_tracker_goes_on_row_for_row(video, mode, buffer):
    frames, times, cuts = video
    whole, parted = (build(mode, track_buffer=buffer) for _ in range(2))
    for number, (frame, time_s) in enumerate(zip(frames, times, strict=True)):
        if number in cuts:
            state = through_a_file(parted.get_state())
            parted.update(*frames[0], time_s=times[0])  # what is restored owes nothing to this one
            parted = build(mode, track_buffer=buffer)
            parted.set_state(state)
        want, got = whole.update(*frame, time_s=time_s), parted.update(*frame, time_s=time_s)
        assert_equal_tracks(got, want)
    assert (parted.num_frames, parted.num_degenerate) == (whole.num_frames, whole.num_degenerate)
    for name, array in whole.get_state().items():
        np.testing.assert_array_equal(parted.get_state()[name], array)


@pytest.mark.parametrize("mode", MODES)
def test_a_state_is_not_touched_by_tracking_on(mode):
    frames = build_scene(SCENES["crossing"])[:30]
    tracker = build(mode)
    for frame in frames[:20]:
        tracker.update(frame.tlbr, frame.scores, frame.embeddings)
    state = tracker.get_state()
    before = {name: array.copy() for name, array in state.items()}
    other = build(mode)
    other.set_state(state)
    for frame in frames[20:]:
        one = tracker.update(frame.tlbr, frame.scores, frame.embeddings)
        assert_equal_tracks(other.update(frame.tlbr, frame.scores, frame.embeddings), one)
    for name, array in state.items():
        assert array.dtype.kind in "fiU"
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("mode", MODES)
def test_a_set_back_tracker_forgets_what_it_saw_since(mode):
    frames = build_scene(SCENES["crossing"])[:30]
    tracker, fresh = build(mode), build(mode)
    state = tracker.get_state()
    for frame in frames:
        tracker.update(frame.tlbr, frame.scores, frame.embeddings)
    tracker.set_state(state)
    for frame in frames:
        want = fresh.update(frame.tlbr, frame.scores, frame.embeddings)
        assert_equal_tracks(tracker.update(frame.tlbr, frame.scores, frame.embeddings), want)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    frame = build_scene(SCENES["crossing"])[0]
    tracker = build()
    tracker.update(frame.tlbr, frame.scores, frame.embeddings)
    kept = tracker.get_state()
    wrong = [
        (build("published").get_state(), "published"),
        (build("sort").get_state(), "sort"),
        (build(rate=25.0).get_state(), r"25\.0 frames a second"),
        ({}, "no state of a tracker"),
        (kept | {"table": kept["table"][:-1]}, "table.shape"),
        (kept | {"embeddings": kept["embeddings"][:1]}, "embeddings.shape"),
        (kept | {"gallery": kept["gallery"][:1]}, "gallery.shape"),
        (kept | {"motion": np.array("jerk")}, "motion jerk"),
    ]
    for state, said in wrong:
        with pytest.raises(ValueError, match=said):
            tracker.set_state(state)
    for name, array in kept.items():
        np.testing.assert_array_equal(tracker.get_state()[name], array)


def test_numbers_of_the_associations_own_stay_with_their_track():
    store = TrackStore(0, extra=2)
    many = build_frame(np.tile([0.0, 0, 9, 9], (200, 1)), np.full(200, 0.9), None)
    store.append(many, np.arange(3), store.take_ranks(3), 0, 1.0)
    store.extra[:, :3] = [[1, 2, 3], [4, 5, 6]]
    store.append(many, np.arange(200), store.take_ranks(200), 0, 1.0)  # the table grows
    store.remove(np.arange(203) == 0)  # the last column takes its place
    by_rank = store.extra[:, :202][:, store.order[:202].argsort()]
    assert by_rank[:, :3].tolist() == [[2, 3, 0], [5, 6, 0]]
    kept = TrackStore(0)
    kept.set_state(through_a_file(store.get_state()))
    np.testing.assert_array_equal(kept.extra[:, :202], store.extra[:, :202])
    store.remove(np.ones(202, bool))
    store.append(many, np.arange(1), store.take_ranks(1), 0, 2.0)
    assert not store.extra[:, 0].any()

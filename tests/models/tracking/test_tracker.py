"""What `JDETracker` promises in mode `default`: identities, limits, faults, time stamps."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recurrent_weights import needed
from tracker_checks import check_ids, check_order

from jde_ray.models.structures import Detections
from jde_ray.models.synthetic.embedding_scenes import SCENES, EmbeddingScene, build_scene
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.baseline import build_filter, measurement_noise
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import CONFIGS, build_config
from jde_ray.models.tracking.tracker import JDETracker

MODES = ["default", "published"]
BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
ONE = np.array([0.9])
LOOK = np.eye(4, dtype=np.float32)[:1]


def build(mode="default", **settings_):
    return JDETracker(TrackingConfig(mode=mode, **settings_), frames_per_second=30)


def walk(steps):
    """A person at constant speed, 4 px a frame, seen at the given frame numbers."""
    return [BOX + np.array([4.0, 0, 4.0, 0]) * step for step in steps]


def ids_of(tracker, boxes, looks=LOOK, **times):
    return tracker.update(boxes, np.full(len(boxes), 0.9), looks, **times).track_id.tolist()


def test_everyone_of_the_first_frame_is_reported_at_once():
    scene = build_scene(SCENES["crossing"])[0]
    tracks = build(birth_score=0.5).update(scene.tlbr, scene.scores, scene.embeddings)
    assert tracks.track_id.tolist() == list(range(1, len(scene) + 1))
    np.testing.assert_allclose(tracks.tlbr, scene.tlbr, atol=1e-3)
    assert tracks.detection_index.tolist() == list(range(len(scene)))


@pytest.mark.parametrize(("mode", "starts"), [("default", 0.6), ("published", 0.5)])
def test_who_appears_must_be_surer_than_who_is_followed(mode, starts):
    below, above = np.array([starts - 0.01]), np.array([starts])
    tracker = build(mode)
    for _ in range(3):
        assert tracker.update(BOX, below, LOOK).track_id.tolist() == []
    tracker.update(BOX, above, LOOK)
    ids = [tracker.update(BOX, np.array([0.51]), LOOK).track_id.tolist() for _ in range(3)]
    assert ids == [[1], [1], [1]]


def test_a_later_newcomer_is_reported_from_the_second_detection_on():
    tracker = build()
    other, looks = BOX + 400, np.eye(4, dtype=np.float32)[:2]
    assert ids_of(tracker, BOX) == [1]
    assert ids_of(tracker, np.concatenate([BOX, other]), looks) == [1]
    assert ids_of(tracker, np.concatenate([BOX, other]), looks) == [1, 2]


def test_min_hits_counts_detections():
    tracker = build(min_hits=4)
    ids_of(tracker, BOX[:0], LOOK[:0])
    assert [ids_of(tracker, BOX) for _ in range(5)] == [[], [], [], [1], [1]]


def test_a_person_hidden_for_a_second_keeps_the_id():
    tracker = build()
    for box in walk(range(10)):
        assert ids_of(tracker, box) == [1]
    for _ in range(30):
        assert ids_of(tracker, BOX[:0], LOOK[:0]) == []
    assert ids_of(tracker, walk([40])[0]) == [1]


def test_a_track_ends_when_its_time_is_over():
    tracker = build(track_buffer=10)
    ids_of(tracker, BOX)
    for _ in range(10):
        ids_of(tracker, BOX[:0], LOOK[:0])
    assert ids_of(tracker, BOX) == []
    assert ids_of(tracker, BOX) == [2]


def test_a_weak_detection_extends_a_track_and_starts_none():
    tracker = build()
    assert ids_of(tracker, BOX) == [1]
    weak = np.concatenate([BOX, BOX + 300])
    for _ in range(3):
        tracks = tracker.update(weak, np.array([0.35, 0.4]), np.repeat(LOOK, 2, axis=0))
        assert tracks.track_id.tolist() == [1]
        assert tracks.score == pytest.approx([0.35])
    assert ids_of(build(), BOX[:0], LOOK[:0]) == []


@pytest.mark.parametrize(("mode", "least"), [("default", 0.3), ("published", 0.5)])
def test_detections_below_the_least_score_change_nothing(mode, least):
    config = TrackingConfig(mode=mode)
    assert config.least_score == pytest.approx(least)
    tracker = JDETracker(config, 30.0)
    looks, scores = np.repeat(LOOK, 2, axis=0), np.array([least - 0.01, 0.9])
    for _ in range(3):
        tracks = tracker.update(np.concatenate([BOX + 300, BOX]), scores, looks)
    assert tracks.detection_index.tolist() == [1]
    assert tracker.num_degenerate == 0


def test_people_without_embeddings_are_followed_by_overlap():
    tracker = build()
    looks = np.zeros((2, 0), np.float32)
    for step in range(30):
        boxes = np.concatenate([walk([step])[0], BOX + 300 - 2 * step])
        assert ids_of(tracker, boxes, looks) == [1, 2]


@pytest.mark.parametrize(
    ("rate", "growth", "dim", "expected"),
    [(7.5, 0.1, 0, [1]), (7.5, 0.0, 0, []), (30.0, 0.1, 0, []), (7.5, 0.1, 4, [])],
)
def test_without_embeddings_a_lost_person_is_found_further_away_at_low_rates(
    rate, growth, dim, expected
):
    """IoU .25, and .5 with boxes that are 1.6 times as wide."""
    tracker = JDETracker(TrackingConfig(lost_growth=growth), rate)
    look = LOOK[:, :dim]
    for _ in range(5):
        ids_of(tracker, BOX, look)
    ids_of(tracker, BOX[:0], look[:0])
    moved = BOX + np.array([24.0, 0, 24.0, 0])
    assert ids_of(tracker, moved, -look) == expected


@pytest.mark.parametrize("mode", MODES)
def test_empty_frames_give_empty_tracks(mode):
    tracker = build(mode)
    for _ in range(3):
        tracks = tracker.update(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 8)))
        assert len(tracks) == 0
        assert tracks.tlbr.shape == (0, 4)
    assert tracker.num_frames == 3


@pytest.mark.parametrize(("mode", "num_frames"), [("default", 6_000), ("published", 4_000)])
def test_a_long_video_needs_no_more_memory_than_a_short_one(mode, num_frames):
    """Somebody new every third frame; the whole state is weighed."""
    tracker, rng = build(mode), np.random.default_rng(12)
    looks = rng.normal(size=(50, 1, 4)).astype(np.float32)
    boxes = BOX + rng.uniform(0, 900, (50, 1, 1))
    for frame in range(num_frames):
        person = frame // 3 % 50
        tracker.update(boxes[person], ONE, looks[person])
        if frame == 1_000:
            weight_before, capacity = len(pickle.dumps(tracker)), tracker._store.capacity
    assert abs(len(pickle.dumps(tracker)) - weight_before) < 1000  # give or take a live track
    assert tracker._store.capacity == capacity


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["boxes", "scores", "embeddings"])
def test_a_number_that_is_not_finite_is_refused_by_name(which, bad, mode):
    arrays = {"boxes": BOX.repeat(3, 0), "scores": ONE.repeat(3), "embeddings": LOOK.repeat(3, 0)}
    arrays = {name: array.copy() for name, array in arrays.items()}
    arrays[which].reshape(3, -1)[1, -1] = bad
    tracker = build(mode)
    with pytest.raises(ValueError, match=rf"{which}.*row 1"):
        tracker.update(**arrays)
    assert tracker.num_frames == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 5, 9, 5], [9, 9, 5, 5], [0, 0, 0, 0]], ids=str)
def test_a_box_without_area_is_dropped_and_counted(box, mode):
    tracker = build(mode)
    boxes = np.concatenate([[box], BOX, [box]]).astype(np.float32)
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tracks = tracker.update(boxes, np.full(3, 0.9), np.eye(3, 4))
    assert tracks.track_id.tolist() == [1]
    assert tracks.detection_index.tolist() == [1]
    assert tracker.num_degenerate == 6


def test_boxes_of_origin_and_size_are_not_left_out_without_a_word():
    tracker = build()
    with pytest.warns(UserWarning, match=r"1 of 1 end before they begin.* x1, y1, x2, y2") as seen:
        tracker.update([[500.0, 200, 60, 150]], [0.9])
    assert seen[0].filename == __file__


@pytest.mark.parametrize("score", [90.0, -0.1, 1.5])
def test_a_score_that_is_no_share_is_refused_by_row(score):
    tracker = build()
    with pytest.raises(ValueError, match=f"scores: got {score:g} in row 1, expected 0 to 1"):
        tracker.update(BOX.repeat(2, 0), [0.9, score])
    assert tracker.num_frames == 0


@pytest.mark.parametrize("association", list(CONFIGS))
@pytest.mark.parametrize(
    "nobody",
    [
        ([], []),
        ([], [], []),
        (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 0))),
        (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4))),
        (np.zeros((0, 4)), np.zeros(0), None),
    ],
    ids=["two lists", "three lists", "no width", "width", "None"],
)
def test_a_frame_of_nobody_fixes_nothing(association, nobody):
    config = build_config(association, **needed(association))
    tracker, plain = (JDETracker(config, 30) for _ in range(2))
    empty = np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4))
    for seen in (False, False, True, True, False, True, True, False, True):
        got = tracker.update(*((BOX, ONE, LOOK) if seen else nobody))
        want = plain.update(*((BOX, ONE, LOOK) if seen else empty))
        assert got.track_id.tolist() == want.track_id.tolist()
        assert got.tlbr.tolist() == want.tlbr.tolist()
        state = tracker.get_state()
        tracker = JDETracker(config, 30)
        tracker.set_state(state)
    with pytest.raises(ValueError, match="width 3, expected 4"):
        tracker.update(BOX, ONE, np.ones((1, 3)))


def test_what_lies_on_somebody_who_was_seen_last_starts_no_track():
    """Too little overlap for a match (IoU .43, limit 1 - .3), too much for somebody new."""
    tracker = build(overlap_limit=0.3, lost_overlap_limit=0, min_hits=1)
    for _ in range(3):
        ids_of(tracker, BOX, LOOK)
    beside = BOX + np.array([16.0, 0, 16.0, 0])
    assert ids_of(tracker, beside, -LOOK) == []  # on the track, which is not seen now
    assert ids_of(tracker, beside, -LOOK) == [2]  # which is lost by now


def test_embeddings_need_not_be_given():
    tracker = build()
    for _ in range(3):
        assert tracker.update(BOX, ONE).track_id.tolist() == [1]


@pytest.mark.parametrize(
    ("boxes", "scores", "embeddings"),
    [
        (np.zeros((2, 5)), np.zeros(2), np.zeros((2, 4))),
        (np.zeros((2, 4)), np.zeros(3), np.zeros((2, 4))),
        (np.zeros((2, 4)), np.zeros((2, 1)), np.zeros((2, 4))),
        (np.zeros((2, 4)), np.zeros(2), np.zeros((1, 4))),
        (np.zeros((2, 4)), np.zeros(2), np.zeros(2)),
        (np.zeros(4), np.zeros(()), np.zeros(4)),
    ],
)
def test_shapes_that_disagree_are_refused(boxes, scores, embeddings):
    with pytest.raises(ValueError, match=r"expected \(N, 4\), \(N,\), \(N, D\)"):
        build().update(boxes, scores, embeddings)


def test_an_embedding_of_another_width_is_refused():
    tracker = build()
    tracker.update(BOX, ONE, LOOK)
    with pytest.raises(ValueError, match="width 3, expected 4"):
        tracker.update(BOX, ONE, np.ones((1, 3)))
    assert tracker.num_frames == 1


def test_an_embedding_of_zeros_is_no_reason_to_stop():
    tracker = build()
    for _ in range(3):
        assert ids_of(tracker, BOX, np.zeros((1, 4))) == [1]


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="frames_per_second"):
        JDETracker(TrackingConfig(), rate)


@st.composite
def crowds(draw):
    return EmbeddingScene(
        draw(st.integers(0, 10_000)),
        draw(st.integers(2, 12)),
        draw(st.integers(11, 25)),
        embedding_dim=draw(st.sampled_from([1, 8])),
        width=draw(st.sampled_from([200, 900])),
        height=400,
        miss=draw(st.sampled_from([0.0, 0.3, 0.7])),
        false_positives=draw(st.sampled_from([0.0, 2.0])),
        dense=draw(st.booleans()),
    )


@settings(max_examples=25, deadline=None)
@given(crowds(), st.sampled_from(MODES), st.integers(0, 40), st.booleans())
@example(
    EmbeddingScene(
        0, 2, 11, embedding_dim=8, width=200, height=400, miss=0.3, false_positives=2.0, dense=False
    ),
    "published",
    0,
    False,
)
def test_whatever_is_seen_ids_are_new_once_and_detections_belong_to_one_track(
    scene, mode, buffer, without_embeddings
):
    tracker = build(mode, track_buffer=buffer)
    # the original first looks at a lost track's age two frames after its last detection, so that a
    # buffer of 0 acts as 1 there; then comes its frame of second life
    longest_gap = 2 + (max(buffer, 1) if mode == "published" else buffer)
    frames = build_scene(scene)
    looks = [f.embeddings[:, :0] if without_embeddings else f.embeddings for f in frames]
    found = [
        tracker.update(f.tlbr, f.scores, vectors) for f, vectors in zip(frames, looks, strict=True)
    ]
    check_ids(frames, found, longest_gap)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(MODES))
def test_the_order_of_detections_does_not_matter_but_for_the_numbers(seed, mode):
    scene = build_scene(EmbeddingScene(seed, 8, 20, embedding_dim=16, width=600, height=400))
    check_order(build(mode), build(mode), scene, seed)


def test_two_trackers_share_nothing():
    frames = build_scene(SCENES["crossing"])[:20]
    alone, one, other = build(), build(), build()
    for frame in frames:
        want = alone.update(frame.tlbr, frame.scores, frame.embeddings)
        got = one.update(frame.tlbr, frame.scores, frame.embeddings)
        other.update(frame.tlbr[::2] + 50, frame.scores[::2], frame.embeddings[::2])
        np.testing.assert_array_equal(got.track_id, want.track_id)


@pytest.mark.parametrize("mode", MODES)
def test_a_tracker_taken_from_a_pickle_goes_on_as_if_nothing_had_happened(mode):
    frames = build_scene(SCENES["crossing"])[:80]
    tracker = build(mode)
    for frame in frames[:40]:
        tracker.update(frame.tlbr, frame.scores, frame.embeddings)
    resumed = pickle.loads(pickle.dumps(tracker))  # noqa: S301
    for frame in frames[40:]:
        want = tracker.update(frame.tlbr, frame.scores, frame.embeddings)
        got = resumed.update(frame.tlbr, frame.scores, frame.embeddings)
        np.testing.assert_array_equal(got.track_id, want.track_id)
        np.testing.assert_array_equal(got.tlbr, want.tlbr)


def test_time_stamps_of_a_constant_rate_change_nothing():
    """Rounded to milliseconds, as containers do."""
    plain, timed = build(), build()
    for number, frame in enumerate(build_scene(SCENES["crossing"])[:60]):
        want = plain.update(frame.tlbr, frame.scores, frame.embeddings)
        stamp = round(7.0 + number / 30, 3)
        got = timed.update(frame.tlbr, frame.scores, frame.embeddings, time_s=stamp)
        np.testing.assert_array_equal(got.track_id, want.track_id)
        np.testing.assert_array_equal(got.tlbr, want.tlbr)


def test_with_time_stamps_the_box_is_that_of_filterpy_with_the_same_steps():
    tracker, oracle, now = build(), None, 0.0
    for dt in [0, 1, 1.5, 0.4, 3, 1, 2.25]:
        now += dt
        box = walk([now])[0]
        tracks = tracker.update(box, ONE, LOOK, time_s=now / 30)
        measured = np.array([[box[0, 0] + 20, 150.0, 0.4, 100.0]]).T
        if oracle is None:
            oracle = build_filter(measured[:, 0])
            continue
        height = oracle.x[3, 0]
        part = np.array([height / 20, height / 20, 1e-2, height / 20]) ** 2
        fast = np.array([height / 160, height / 160, 1e-5, height / 160]) ** 2
        squares, ones = kalman.process_noise(dt)
        noise = np.zeros((8, 8))
        noise[:4, :4] = np.diag(dt * part + squares * fast)
        noise[:4, 4:] = noise[4:, :4] = np.diag(ones * fast)
        noise[4:, 4:] = np.diag(dt * fast)
        oracle.predict(F=np.eye(8) + dt * np.eye(8, k=4), Q=noise)
        oracle.update(measured, R=measurement_noise(oracle.x[3, 0]))
        centre = (tracks.tlbr[0, :2] + tracks.tlbr[0, 2:]) / 2
        np.testing.assert_allclose(centre, oracle.x[:2, 0], rtol=0, atol=1e-9)


def fast_walkers(step_px):
    """Two people who pass each other; alike, so that motion must tell them apart."""
    for number in range(60):
        left = BOX + np.array([1.0, 0, 1, 0]) * step_px * number
        right = BOX + np.array([800, 30, 800, 30]) - np.array([1.0, 0, 1, 0]) * step_px * number
        yield number, np.concatenate([left, right])


@pytest.mark.parametrize("kept", ["every second frame", "bursts"])
def test_with_half_of_the_frames_missing_time_stamps_keep_the_ids(kept):
    tracker = build()
    looks = np.repeat(LOOK, 2, axis=0)
    for number, boxes in fast_walkers(7.0):
        if number % 2 == 0 if kept == "every second frame" else number % 6 < 3:
            tracks = tracker.update(boxes, np.full(2, 0.9), looks, time_s=number / 30)
            owner = dict(zip(tracks.detection_index, tracks.track_id, strict=True))
            assert owner == {0: 1, 1: 2}, number


def test_the_buffer_is_time_where_time_stamps_are_given():
    tracker = build(track_buffer=30)
    assert ids_of(tracker, BOX, time_s=0.0) == [1]
    assert ids_of(tracker, BOX, time_s=1 / 30) == [1]
    assert ids_of(tracker, BOX, time_s=0.9) == [1]
    assert ids_of(tracker, BOX, time_s=60.0) == []


def test_a_rate_of_one_frame_a_second_or_a_clock_that_stands_still_does_not_lose_people():
    slow = JDETracker(TrackingConfig(track_buffer=0), frames_per_second=1)
    assert [ids_of(slow, BOX) for _ in range(3)] == [[1]] * 3
    still = build()
    assert [ids_of(still, BOX, time_s=t) for t in (5.0, 5.0, 4.0, 4.1, 1e9)] == [[1]] * 4 + [[]]


@pytest.mark.parametrize("time_s", [np.nan, np.inf])
def test_a_time_that_is_none_is_refused(time_s):
    tracker = build()
    with pytest.raises(ValueError, match="time_s"):
        tracker.update(BOX, ONE, LOOK, time_s=time_s)
    assert tracker.num_frames == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "original"},
        {"track_buffer": -1},
        {"birth_score": 1.5},
        {"appearance_limit": -0.1},
        {"embedding_momentum": float("nan")},
        {"min_hits": 0},
        {"mode": "published", "appearance_limit": 0.8},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]}: got"):
        TrackingConfig(**wrong)


def as_detections(frames, kind=np.float16):
    return [Detections(one.tlbr, one.scores, one.embeddings.astype(kind)) for one in frames]


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_frames_prepared_together_are_tracked_like_one_by_one(name, kind):
    found = as_detections(build_scene(SCENES["crossing"])[:40], kind)
    found[7] = found[7][:0]
    config = build_config(name, **needed(name))
    one_by_one, together = (JDETracker(config, 30) for _ in range(2))
    frames = together.prepare(found)
    assert frames is not None
    for number, (one, frame) in enumerate(zip(found, frames, strict=True)):
        looks = one.embeddings.astype(np.float32)
        expected = one_by_one.update(one.tlbr, one.scores, looks, time_s=number / 30)
        got = together.advance(frame, number / 30, None, is_of_nobody=not len(one))
        for field in ("track_id", "tlbr", "score", "detection_index"):
            np.testing.assert_array_equal(getattr(got, field), getattr(expected, field))


@pytest.mark.parametrize(
    ("box", "score", "look"),
    [
        ([0, 0, 0, 9], 0.9, 1.0),  # no area
        ([0, 0, np.nan, 9], 0.9, 1.0),
        ([0, 0, 9, 9], 1.5, 1.0),
        ([0, 0, 9, 9], np.nan, 1.0),
        ([0, 0, 9, 9], 0.0, 1.0),  # below every limit
        ([0, 0, 9, 9], 0.9, np.inf),
    ],
)
def test_frames_that_need_a_closer_look_are_not_prepared(box, score, look):
    good = Detections(BOX.astype(np.float32), ONE, LOOK.astype(np.float16))
    looks = np.full((1, 4), look, np.float16)
    odd = Detections(np.array([box], np.float32), np.array([score]), looks)
    assert build().prepare([good, good]) is not None
    assert build().prepare([good, odd]) is None
    assert build().prepare([good[:0]]) is None

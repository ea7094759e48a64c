"""RAN's own: what a track remembers, who is refused, and its file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recurrent_weights import newest, newest_looks, weights_file
from safetensors.numpy import save_file
from scipy.stats import norm

from jde_ray.models.synthetic.embedding_scenes import EmbeddingScene, build_scene
from jde_ray.models.tracking import mean_velocity
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.ran_weights import RanWeights
from jde_ray.models.tracking.registry import build_config, check_embedder
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.ran import EXTRA, RanConfig, likelihoods
from jde_ray.pipelines.config import DetectionConfig, TrackConfig
from jde_ray.pipelines.detection.weights import embedder_sha256

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
RIGHT = np.array([1.0, 0, 1.0, 0])


def build(**settings):
    return JDETracker(RanConfig(weights=weights_file(), **settings), 30.0)


def step(tracker, boxes, looks=None):
    boxes = np.reshape(boxes, (-1, 4))
    return tracker.update(boxes, np.full(len(boxes), 0.9), looks).track_id.tolist()


def memory_of(tracker):
    return newest().split(tracker._store.extra[:EXTRA, : tracker._store.count])[1]


def test_a_track_remembers_its_changes_newest_first_and_a_gap_counts_per_frame():
    tracker = build()
    for place in (0, 5, 15):
        step(tracker, BOX + place * RIGHT)
    memory = memory_of(tracker)[:, :, 0]
    np.testing.assert_allclose(memory[:3, 0], [2.0, 1.0, 0.0], atol=1e-12)  # 5 px of 100: 1
    assert not memory[:, 1:].any()
    step(tracker, [])
    step(tracker, [])
    np.testing.assert_array_equal(memory_of(tracker)[:, :, 0], memory)  # nothing was taken
    step(tracker, BOX + 45 * RIGHT)
    np.testing.assert_allclose(memory_of(tracker)[:3, 0, 0], [2.0, 2.0, 1.0], atol=1e-12)


def test_a_track_is_reported_from_its_third_detection_and_ends_after_ten_frames():
    tracker = build()
    assert [step(tracker, BOX) for _ in range(4)] == [[], [], [1], [1]]
    for _ in range(10):
        step(tracker, [])
    assert step(tracker, BOX) == [1]
    for _ in range(11):
        step(tracker, [])
    assert tracker._store.count == 0


def test_who_is_too_unlikely_begins_a_track_of_their_own():
    """With variance 1 the log density is -3.68 - d^2 / 2; the limit is -16: d up to 4.97 units."""
    for distance, own in ((24.5, 1), (25.5, 2)):
        tracker = build()
        for _ in range(3):
            step(tracker, BOX)
        step(tracker, BOX + distance * RIGHT)
        assert tracker._store.count == own


def test_after_n_frames_people_are_n_times_as_far_with_n_times_the_variance():
    tracker = build()
    for place in (0, 5, 10):
        step(tracker, BOX + place * RIGHT)
    for _ in range(2):
        step(tracker, [])
    store = tracker._store
    mean_velocity.predict(store.state[:, : store.count])
    frame = build_frame(BOX + 27 * RIGHT, [0.9], None)
    got = likelihoods(store, frame, tracker.config, RanWeights(motion=newest()))
    want = norm.logpdf([17 / 5, 0, 0, 0], [3.0, 0, 0, 0], np.sqrt(3)).sum()
    assert got == pytest.approx(want)


def test_looks_decide_between_two_that_are_equally_near():
    looks = np.eye(2, dtype=np.float32)
    tracker = build(min_hits=1)
    both = np.concatenate([BOX, BOX + 20 * RIGHT])
    assert step(tracker, both, looks) == [1, 2]
    middle = np.concatenate([BOX + 11 * RIGHT, BOX + 9 * RIGHT])
    assert step(tracker, middle, looks) == [1, 2]


def with_looks(folder: Path, **settings):
    """A tracker whose weights foretell the newest embedding of four numbers again."""
    newest_looks(4, sha256="a" * 64).save(folder / "looks.safetensors")
    return JDETracker(RanConfig(weights=str(folder / "looks.safetensors"), **settings), 30.0)


def of_two_who_meet(tracker, looks, order):
    """Detections of track 1 and 2 in frames in which two people meet, stand still, and part.

    Motion cannot tell what they do next: with `order` [1, 0] they pass each other, with [0, 1] they
    turn back. Person k is always detection k.
    """
    found = []
    for number, place in enumerate([30, 22, 16, 11, 7, 4, 2, 2, 2, 7, 14]):
        boxes = np.concatenate([BOX - place * RIGHT, BOX + place * RIGHT])
        boxes = boxes[order] if number > 8 else boxes
        tracks = tracker.update(boxes, [0.9, 0.9], looks)
        order_of_ids = tracks.track_id.argsort()
        found.append(tracks.detection_index[order_of_ids].tolist())
    return found


def test_appearance_decides_where_motion_cannot(tmp_path):
    looks = np.eye(2, 4, dtype=np.float32)
    last = []
    for order in ([0, 1], [1, 0]):
        tracker = with_looks(tmp_path, min_hits=1)
        assert of_two_who_meet(tracker, looks, order) == [[0, 1]] * 11
        last.append(of_two_who_meet(build(min_hits=1), None, order)[-1])
    assert last == [[0, 1], [1, 0]]  # by motion alone they seem to turn back


def test_a_track_remembers_the_embeddings_of_its_detections_from_the_first_on(tmp_path):
    tracker = with_looks(tmp_path, min_hits=1)
    looks = np.eye(4, dtype=np.float32)
    step(tracker, BOX, looks[:1])
    step(tracker, [], np.zeros((0, 4)))
    step(tracker, BOX, looks[:1])
    step(tracker, BOX, np.zeros((1, 4)))  # not looked at: its boxes alone count
    store, regression = tracker._store, newest_looks(4).looks.regression
    assert store.count == 1
    memory = regression.split(store.extra[EXTRA:, :1])[1][..., 0]
    np.testing.assert_allclose(memory[:2], [[4.5, -0.5, -0.5, -0.5]] * 2, atol=1e-5)
    assert not memory[2:].any()


def test_a_limit_refuses_who_looks_too_different(tmp_path):
    """Log densities are at best -7.35; the limit is -24, which two opposite looks lie below."""
    for angle, own in ((0.3, 1), (np.pi, 2)):
        tracker = with_looks(tmp_path)
        for turn in (0.0, 0.0, 0.0, angle):
            look = np.array([[np.cos(turn), np.sin(turn), 0, 0]], np.float32)
            step(tracker, BOX, look)
        assert tracker._store.count == own


def test_the_state_of_appearance_goes_on_from_a_checkpoint(tmp_path):
    frames = build_scene(EmbeddingScene(5, 8, 30, embedding_dim=4, width=500, height=400))
    whole, first = with_looks(tmp_path), with_looks(tmp_path)
    for frame in frames[:15]:
        whole.update(frame.tlbr, frame.scores, frame.embeddings)
        first.update(frame.tlbr, frame.scores, frame.embeddings)
    second = with_looks(tmp_path)
    second.set_state(first.get_state())
    assert len(second._store.extra) > EXTRA
    for frame in frames[15:]:
        want = whole.update(frame.tlbr, frame.scores, frame.embeddings)
        got = second.update(frame.tlbr, frame.scores, frame.embeddings)
        np.testing.assert_array_equal(got.track_id, want.track_id)
        live = slice(0, whole._store.count)
        np.testing.assert_array_equal(second._store.extra[:, live], whole._store.extra[:, live])


def test_without_embeddings_or_by_the_cosine_a_file_is_what_its_motion_is(tmp_path):
    frames = build_scene(EmbeddingScene(6, 8, 25, embedding_dim=4, width=500, height=400))
    pairs = [
        (with_looks(tmp_path), build(), 0),
        (with_looks(tmp_path, appearance="cosine"), build(), 4),
    ]
    for here, there, width in pairs:
        for frame in frames:
            looks = frame.embeddings[:, :width]
            got = here.update(frame.tlbr, frame.scores, looks)
            want = there.update(frame.tlbr, frame.scores, looks)
            np.testing.assert_array_equal(got.track_id, want.track_id)
        assert len(here._store.extra) == EXTRA


def test_embeddings_of_another_network_are_refused_at_the_start(tmp_path):
    tracking = with_looks(tmp_path).config

    def started(detection, **settings):
        check_embedder(replace(tracking, **settings), embedder_sha256(detection))

    with pytest.raises(ValueError, match=r"got embeddings of bbbbbbbb, expected those of small"):
        started(DetectionConfig(weights_sha256="b" * 64, reid="none"))
    for known in ("a" * 64, ""):
        started(DetectionConfig(weights_sha256=known, reid="none"))
    second = DetectionConfig(weights_sha256="a" * 64, reid="x.onnx", reid_sha256="c" * 64)
    with pytest.raises(ValueError, match="expected those of small"):
        started(second)
    started(second, appearance="cosine")
    tracker = with_looks(tmp_path)
    with pytest.raises(ValueError, match="embeddings: got width 3, expected 4"):
        step(tracker, BOX, np.ones((1, 3)))
    assert tracker.num_frames == 0


def test_the_file_is_required_and_another_one_is_refused(tmp_path: Path):
    def refused(match, **settings):
        with pytest.raises(ValueError, match=match):
            JDETracker(build_config("ran", **settings), 30.0)
        with pytest.raises(ValueError, match=match):
            TrackConfig(tracking=build_config("ran", **settings))

    refused("tracking weights: got none, expected the weights.safetensors of `jde train`")
    refused("gone.safetensors is missing", weights=str(tmp_path / "gone.safetensors"))
    other = tmp_path / "other.safetensors"
    save_file({"x": np.zeros(1)}, other, metadata={"network": "reid"})
    refused("got a network of kind reid, expected ran", weights=str(other))
    other.write_bytes(b"no such file")
    refused("tracking weights: .*other.safetensors: ", weights=str(other))


def test_weights_count_by_content_and_not_by_name(tmp_path: Path):
    def hash_of(path):
        return TrackConfig(tracking=RanConfig(weights=str(path))).hash()

    for name, seed in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        RanWeights(motion=newest(spread_bias=np.full(4, seed))).save(tmp_path / name)
    assert hash_of(tmp_path / "a") == hash_of(tmp_path / "b") != hash_of(tmp_path / "c")


def test_tracking_needs_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from jde_ray.models.tracking.tracker import JDETracker\n"
        "from jde_ray.models.tracking.trackers.ran import RanConfig\n"
        f"tracker = JDETracker(RanConfig(weights={weights_file()!r}), 30.0)\n"
        "for _ in range(3): tracks = tracker.update([[10, 10, 50, 90]], [0.9])\n"
        "assert len(tracks) == 1 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

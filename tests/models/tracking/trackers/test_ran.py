"""RAN's own: what a track remembers, who is refused, and its file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recurrent_weights import newest, weights_file
from safetensors.numpy import save_file
from scipy.stats import norm

from jde_ray.models.tracking import mean_velocity
from jde_ray.models.tracking.frame import build_frame
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.ran import RanConfig, likelihoods, remembered
from jde_ray.pipelines.config import TrackConfig

BOX = np.array([[100.0, 100.0, 140.0, 200.0]])
RIGHT = np.array([1.0, 0, 1.0, 0])


def build(**settings):
    return JDETracker(RanConfig(weights=weights_file(), **settings), 30.0)


def step(tracker, boxes, looks=None):
    boxes = np.reshape(boxes, (-1, 4))
    return tracker.update(boxes, np.full(len(boxes), 0.9), looks).track_id.tolist()


def memory_of(tracker):
    return remembered(tracker._store.extra[:, : tracker._store.count])[1]


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
    got = likelihoods(store, frame, tracker.config, newest())
    want = norm.logpdf([17 / 5, 0, 0, 0], [3.0, 0, 0, 0], np.sqrt(3)).sum()
    assert got == pytest.approx(want)


def test_looks_decide_between_two_that_are_equally_near():
    looks = np.eye(2, dtype=np.float32)
    tracker = build(min_hits=1)
    both = np.concatenate([BOX, BOX + 20 * RIGHT])
    assert step(tracker, both, looks) == [1, 2]
    middle = np.concatenate([BOX + 11 * RIGHT, BOX + 9 * RIGHT])
    assert step(tracker, middle, looks) == [1, 2]


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
        newest(spread_bias=np.full(4, seed)).save(tmp_path / name)
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

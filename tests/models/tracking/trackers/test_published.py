"""Mode `published` against the original's recorded output and against the plain loop."""

import numpy as np
import places
import pytest

from jde_ray.models.synthetic.embedding_scenes import SCENES, EmbeddingScene, build_scene
from jde_ray.models.tracking.baseline import LoopTracker
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.tracker import JDETracker

GOLDEN = places.GOLDEN / "association_a.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def renumbered(ids):
    seen = {}
    return np.array([seen.setdefault(track_id, len(seen) + 1) for track_id in ids])


def test_the_published_mode_equals_the_original_row_for_row(golden):
    tracker = JDETracker(TrackingConfig(mode="published"), frames_per_second=30)
    frames, tracks = [], []
    for number in range(1, 301):
        rows = golden["in_frame"] == number
        tracks.append(
            tracker.update(
                golden["in_tlbr"][rows],
                golden["in_conf"][rows],
                golden["in_emb_f16"][rows].astype(np.float32),
            )
        )
        frames += [number] * len(tracks[-1])
    ids = np.concatenate([t.track_id for t in tracks])
    tlbr = np.concatenate([t.tlbr for t in tracks])
    np.testing.assert_array_equal(frames, golden["out_frame"])
    np.testing.assert_array_equal(ids, renumbered(golden["out_id"]))
    np.testing.assert_allclose(tlbr[:, :2], golden["out_tlwh"][:, :2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        tlbr[:, 2:] - tlbr[:, :2], golden["out_tlwh"][:, 2:], rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(np.concatenate([t.score for t in tracks]), golden["out_score"])


def test_the_seeded_scene_is_the_golden_input(golden):
    frames = build_scene(SCENES["crossing"])
    counts = np.bincount(golden["in_frame"], minlength=301)[1:]
    np.testing.assert_array_equal([len(frame) for frame in frames], counts)
    np.testing.assert_array_equal(np.concatenate([f.tlbr for f in frames]), golden["in_tlbr"])
    np.testing.assert_array_equal(np.concatenate([f.scores for f in frames]), golden["in_conf"])
    np.testing.assert_array_equal(
        np.concatenate([f.embeddings for f in frames]), golden["in_emb_f16"].astype(np.float32)
    )


@pytest.mark.parametrize("buffer", [0, 2, 8, 30])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_published_mode_equals_the_loop_of_filterpy_objects(seed, buffer):
    """Short buffers bring out the original's second life of removed tracks."""
    scene = EmbeddingScene(
        seed, 25, 80, embedding_dim=16, width=900, height=600, miss=0.25, dense=False
    )
    fast = JDETracker(TrackingConfig(mode="published", track_buffer=buffer), frames_per_second=30)
    loop = LoopTracker(max_lost=buffer)
    rows = 0
    for frame in build_scene(scene):
        got = fast.update(frame.tlbr, frame.scores, frame.embeddings)
        want = loop.update(frame.tlbr, frame.scores, frame.embeddings)
        np.testing.assert_array_equal(got.track_id, want.track_id)
        np.testing.assert_array_equal(got.detection_index, want.detection_index)
        np.testing.assert_array_equal(got.score, want.score)
        np.testing.assert_allclose(got.tlbr, want.tlbr, rtol=0, atol=1e-6)
        rows += len(got)
    assert rows > 500

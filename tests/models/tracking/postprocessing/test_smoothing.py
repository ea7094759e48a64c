import numpy as np
import pytest

from jde_ray.models.tracking.postprocessing.smoothing import smooth
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


def walk(frames, noise, seed=0, speed=3.0):
    frames = np.asarray(frames)
    x = 100 + speed * frames
    straight = np.stack([x, 0 * x + 50, x + 40, 0 * x + 150], 1).astype(float)
    jitter = noise * np.random.default_rng(seed).normal(size=straight.shape)
    ids = np.ones(len(frames), np.int64)
    return straight, Trajectories(frames, ids, straight + jitter, np.ones(len(frames)))


def test_a_straight_walk_stays_where_it_is():
    straight, tracks = walk(range(30), 0.0)
    assert smooth(tracks).tlbr == pytest.approx(straight, abs=0.5)


def test_jitter_becomes_less_than_half():
    straight, tracks = walk(range(60), 4.0)
    before = np.abs(tracks.tlbr - straight).mean()
    after = np.abs(smooth(tracks).tlbr - straight).mean()
    assert after < 0.5 * before


def test_gaps_get_no_rows_and_time_goes_on_in_them():
    straight, tracks = walk([*range(10), *range(25, 40)], 0.5)
    smoothed = smooth(tracks)
    assert smoothed.frame.tolist() == tracks.frame.tolist()
    assert np.abs(smoothed.tlbr - straight).max() < 2


def test_a_stride_is_the_unit_of_time():
    _, tracks = walk(range(0, 60, 3), 2.0)
    dense = Trajectories(tracks.frame // 3, tracks.track_id, tracks.tlbr, tracks.score)
    assert smooth(tracks, stride=3).tlbr.tolist() == smooth(dense).tlbr.tolist()


def test_other_tracks_do_not_matter_and_two_boxes_are_left_alone():
    _, one = walk(range(20), 3.0, seed=1)
    _, two = walk(range(2), 3.0, seed=2)
    both = Trajectories(
        np.concatenate([one.frame, two.frame]),
        np.concatenate([one.track_id, two.track_id + 1]),
        np.concatenate([one.tlbr, two.tlbr]),
        np.concatenate([one.score, two.score]),
    )
    smoothed = smooth(both).tlbr
    assert smoothed[:20].tolist() == smooth(one).tlbr.tolist()
    assert smoothed[20:].tolist() == two.tlbr.tolist()

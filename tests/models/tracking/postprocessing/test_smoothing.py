import numpy as np
import pytest
from filterpy.kalman import KalmanFilter

from jde_ray.models.boxes import tlbr_to_xyah, xyah_to_tlbr
from jde_ray.models.tracking.postprocessing import smoothing
from jde_ray.models.tracking.postprocessing.smoothing import smooth
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


def walk(frames, noise, seed=0, speed=3.0):
    frames = np.asarray(frames)
    x = 100 + speed * frames
    straight = np.stack([x, 0 * x + 50, x + 40, 0 * x + 150], 1).astype(float)
    jitter = noise * np.random.default_rng(seed).normal(size=straight.shape)
    ids = np.ones(len(frames), np.int64)
    return straight, Trajectories.sort(frames, ids, straight + jitter, np.ones(len(frames)))


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


@pytest.mark.parametrize("height", [0.0, -5.0])
def test_a_box_without_height_stays_and_counts_as_unseen(height):
    straight, tracks = walk(range(30), 1.0)
    tracks.tlbr[7, 3] = tracks.tlbr[7, 1] + height
    flat = tracks.tlbr[7].tolist()
    seen = np.arange(30) != 7
    smoothed = smooth(tracks).tlbr
    assert smoothed[7].tolist() == flat
    assert smoothed[seen].tolist() == smooth(tracks[seen]).tlbr.tolist()
    assert smoothed[seen] == pytest.approx(straight[seen], abs=2)


def test_boxes_without_width_are_smoothed_like_others():
    _, tracks = walk(range(30), 1.0)
    tracks.tlbr[7, 2] = tracks.tlbr[7, 0]
    assert np.isfinite(smooth(tracks).tlbr).all()


def test_a_stride_is_the_unit_of_time():
    _, tracks = walk(range(0, 60, 3), 2.0)
    dense = Trajectories.sort(tracks.frame // 3, tracks.track_id, tracks.tlbr, tracks.score)
    assert smooth(tracks, stride=3).tlbr.tolist() == smooth(dense).tlbr.tolist()


def test_other_tracks_do_not_matter_and_two_boxes_are_left_alone():
    _, one = walk(range(20), 3.0, seed=1)
    _, two = walk(range(2), 3.0, seed=2)
    both = Trajectories.sort(
        np.concatenate([one.frame, two.frame]),
        np.concatenate([one.track_id, two.track_id + 1]),
        np.concatenate([one.tlbr, two.tlbr]),
        np.concatenate([one.score, two.score]),
    )
    smoothed = smooth(both).tlbr
    assert smoothed[:20].tolist() == smooth(one).tlbr.tolist()
    assert smoothed[20:].tolist() == two.tlbr.tolist()


def by_filterpy(step, tlbr):
    """Smoothed boxes of one track by filterpy's filter of eight states."""
    xyah = tlbr_to_xyah(tlbr)
    count = int(step[-1]) + 1
    height = np.interp(np.arange(count), step, xyah[:, 3])
    measured = [None] * count
    for at, values in zip(step, xyah, strict=True):
        measured[int(at)] = values
    error = np.stack([height / 20, height / 20, np.full(count, 0.05), height / 20], 1)
    change = np.stack([height / 160, height / 160, np.full(count, 1e-3), height / 160], 1)
    process = np.zeros((count, 8, 8))
    index = np.arange(4)
    process[:, index, index] = change**2 / 3
    process[:, index, index + 4] = process[:, index + 4, index] = change**2 / 2
    process[:, index + 4, index + 4] = change**2
    model = KalmanFilter(dim_x=8, dim_z=4)
    model.F = np.eye(8) + np.eye(8, k=4)
    model.H = np.eye(4, 8)
    model.x = np.concatenate([xyah[0], np.zeros(4)])
    model.P = np.diag(np.concatenate([2 * error[0], 10 * change[0]]) ** 2)
    noise = [np.diag(one**2) for one in error]
    means, covariances, _, _ = model.batch_filter(measured, Qs=list(process), Rs=noise)
    smoothed, _, _, _ = model.rts_smoother(means, covariances, Qs=list(process))
    return xyah_to_tlbr(smoothed.reshape(count, 8)[step][:, :4])


def test_many_tracks_at_once_equal_filterpy_one_by_one(monkeypatch):
    dice = np.random.default_rng(2)
    parts = []
    for number in range(12):
        frames = np.flatnonzero(dice.random(dice.integers(4, 80)) < 0.7)
        if len(frames) < 3:
            continue
        _, one = walk(frames, 3.0, seed=number, speed=dice.normal())
        growing = one.tlbr + np.outer(frames, [0, 0, 0.3, 0.9])
        parts.append((frames, np.full(len(frames), number), growing))
    frame, ids, tlbr = (np.concatenate(part) for part in zip(*parts, strict=True))
    tracks = Trajectories.sort(frame, ids, tlbr, np.ones(len(frame)))
    expected = np.concatenate([by_filterpy(f - f[0], boxes) for f, _, boxes in parts])
    for steps in (1, 150, 1 << 17):
        monkeypatch.setattr(smoothing, "_STEPS", steps)
        assert smooth(tracks).tlbr == pytest.approx(expected, abs=1e-6)

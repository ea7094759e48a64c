import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.tracking.postprocessing.trajectories import (
    Trajectories,
    drop_short,
    interpolate,
)


def make(*tracks):
    """Tracks of (id, frames, x of each): boxes 10 wide and 20 high."""
    frame = np.concatenate([np.array(frames, np.int64) for _, frames, _ in tracks])
    ids = np.concatenate([np.full(len(frames), i) for i, frames, _ in tracks])
    x = np.concatenate([np.array(xs, float) for _, _, xs in tracks])
    tlbr = np.stack([x, 0 * x, x + 10, 0 * x + 20], 1)
    return Trajectories.sort(frame, ids, tlbr, 0.5 + frame / 100)


def test_rows_are_sorted_by_track_and_frame():
    tracks = Trajectories.sort(
        np.array([3, 1, 2]), np.array([2, 7, 2]), np.zeros((3, 4)), np.array([0.3, 0.1, 0.2])
    )
    assert tracks.track_id.tolist() == [2, 2, 7]
    assert tracks.score.tolist() == [0.2, 0.3, 0.1]
    assert tracks.source.tolist() == [2, 0, 1]
    renamed = tracks.with_ids(np.array([9, 9, 1]))
    assert renamed.frame.tolist() == [1, 2, 3]
    assert renamed.source.tolist() == [1, 2, 0]
    assert [s.tolist() for s in tracks.spans()] == [[0, 2], [2, 3]]


@pytest.mark.parametrize(
    ("frame", "ids", "message"),
    [([1, 1], [3, 3], "by rising frame"), ([0, 0], [3, 2], "by track"), ([0], [1, 2], "shapes")],
)
def test_rows_out_of_order_or_shape_are_refused(frame, ids, message):
    with pytest.raises(ValueError, match=message):
        Trajectories(np.array(frame), np.array(ids), np.zeros((2, 4)), np.zeros(2), np.arange(2))
    with pytest.raises(ValueError, match="rows: got 1 sources"):
        Trajectories(np.arange(2), np.ones(2), np.zeros((2, 4)), np.zeros(2), np.zeros(1, int))


def test_a_gap_is_filled_on_a_straight_line():
    filled = interpolate(make((1, [0, 4], [0, 8]), (2, [0, 1], [50, 50])), 3)
    first = filled[filled.track_id == 1]
    assert first.frame.tolist() == [0, 1, 2, 3, 4]
    assert first.tlbr[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert first.score.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.54])
    assert first.source.tolist() == [0, 0, 0, 0, 1]
    assert (filled.track_id == 2).sum() == 2


def test_longer_gaps_stay_and_strides_are_no_gaps():
    assert len(interpolate(make((1, [0, 4], [0, 8])), 2)) == 2
    strided = make((1, [0, 5, 20], [0, 5, 20]))
    assert len(interpolate(strided, 10, stride=5)) == 5
    assert interpolate(strided, 10, stride=5).tlbr[:, 0].tolist() == [0, 5, 10, 15, 20]


@settings(max_examples=50, deadline=None)
@given(
    frames=st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=4),
    max_gap=st.integers(1, 12),
)
def test_filling_keeps_every_row_and_leaves_only_long_gaps(frames, max_gap):
    tracks = make(*[(i, sorted(own), sorted(own)) for i, own in enumerate(frames)])
    filled = interpolate(tracks, max_gap)
    before = set(zip(tracks.track_id.tolist(), tracks.frame.tolist(), strict=True))
    after = set(zip(filled.track_id.tolist(), filled.frame.tolist(), strict=True))
    assert before <= after
    assert filled.tlbr[:, 0] == pytest.approx(filled.frame)  # all are on the line x = frame
    for number in range(len(frames)):
        own = filled.frame[filled.track_id == number]
        assert ((np.diff(own) == 1) | (np.diff(own) > max_gap + 1)).all()
    again = interpolate(filled, max_gap)
    assert again.frame.tolist() == filled.frame.tolist()


def test_short_tracks_go_whole():
    tracks = make((1, [0, 1], [0, 0]), (2, [0, 5, 9], [0, 0, 0]))
    assert set(drop_short(tracks, 3).track_id.tolist()) == {2}
    assert len(drop_short(tracks, 1)) == 5
    assert len(drop_short(tracks, 9)) == 0
    assert len(interpolate(drop_short(tracks, 9), 5)) == 0

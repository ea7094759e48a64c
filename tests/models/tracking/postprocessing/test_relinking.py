import numpy as np
import pytest

from jde_ray.models.tracking.postprocessing.relinking import RelinkLimits, relink
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


def make(*tracks):
    """Tracks of (id, first frame, last frame, x, axis of the embedding), boxes 10 x 20."""
    frame = np.concatenate([np.arange(a, b + 1) for _, a, b, _, _ in tracks])
    length = [b - a + 1 for _, a, b, _, _ in tracks]
    ids, x, axis = (np.repeat([t[k] for t in tracks], length) for k in (0, 3, 4))
    tlbr = np.stack([x, 0 * x, x + 10, 0 * x + 20], 1).astype(float)
    noise = 0.05 * np.random.default_rng(0).normal(size=(len(ids), 4))
    return Trajectories.sort(frame, ids, tlbr, np.ones(len(ids)), np.eye(4)[axis] + noise)


def ids(tracks):
    return sorted(set(tracks.track_id.tolist()))


def test_who_comes_back_looking_the_same_keeps_the_first_id():
    tracks = make((3, 0, 9, 0, 0), (5, 20, 29, 5, 0), (8, 40, 49, 0, 0))
    joined = relink(tracks, RelinkLimits(), 10)
    assert ids(joined) == [3]
    assert joined.frame.tolist() == [*range(10), *range(20, 30), *range(40, 50)]
    assert len(joined) == len(tracks)


@pytest.mark.parametrize(
    "second",
    [
        (5, 20, 29, 5, 1),  # looks otherwise
        (5, 80, 89, 5, 0),  # too late
        (5, 20, 29, 500, 0),  # too far
        (5, 5, 29, 5, 0),  # both at once
        (5, 20, 22, 5, 0),  # too short
    ],
    ids=["appearance", "gap", "way", "overlap", "length"],
)
def test_others_stay_apart(second):
    assert ids(relink(make((3, 0, 9, 0, 0), second), RelinkLimits(), 10)) == [3, 5]


def test_time_is_told_in_seconds():
    tracks = make((3, 0, 9, 0, 0), (5, 60, 69, 5, 0))
    assert ids(relink(tracks, RelinkLimits(max_gap_s=3), 10)) == [3, 5]
    assert ids(relink(tracks, RelinkLimits(max_gap_s=3), 25)) == [3]


def test_of_two_that_fit_the_likelier_is_taken_and_nobody_is_two():
    tracks = make((1, 0, 9, 0, 0), (2, 0, 9, 30, 1), (3, 20, 29, 0, 1), (4, 20, 29, 30, 0))
    joined = relink(tracks, RelinkLimits(), 10)
    rows = {int(i): joined.embeddings[joined.track_id == i].argmax(1) for i in ids(joined)}
    assert {i: set(axis.tolist()) for i, axis in rows.items()} == {1: {0}, 2: {1}}


def test_without_embeddings_or_tracks():
    tracks = make((3, 0, 9, 0, 0), (5, 20, 29, 5, 0))
    bare = Trajectories(tracks.frame, tracks.track_id, tracks.tlbr, tracks.score)
    with pytest.raises(ValueError, match="without embeddings"):
        relink(bare, RelinkLimits(), 10)
    nobody = np.zeros(len(tracks), bool)
    assert len(relink(tracks[nobody], RelinkLimits(), 10)) == 0


@pytest.mark.parametrize(
    "wrong", [{"max_gap_s": 0}, {"max_distance": 3}, {"max_speed": -1}, {"min_rows": 0}]
)
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError, match="relink: "):
        RelinkLimits(**wrong)

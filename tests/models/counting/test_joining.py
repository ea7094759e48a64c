import numpy as np
import pytest

from jde_ray.models.counting.joining import join_tracks


def tracks(*pieces):
    """Rows of (id, first second, last second, x at both ends), ten a second, 100 px high."""
    parts = []
    for track_id, first, last, left, right in pieces:
        time_s = np.linspace(first, last, round((last - first) * 10) + 1)
        x = np.linspace(left, right, len(time_s))
        tlbr = np.stack([x - 20, 0 * x, x + 20, 0 * x + 100], axis=1)
        parts.append((time_s, np.full(len(time_s), track_id), tlbr))
    return [np.concatenate(own) for own in zip(*parts, strict=True)]


def joined(join_s, *pieces):
    time_s, ids, tlbr = tracks(*pieces)
    new = join_tracks(time_s, ids, tlbr, join_s)
    return {int(old): int(new[ids == old][0]) for old in np.unique(ids)}


def test_a_track_that_begins_where_another_was_heading_continues_it():
    pieces = (5, 0, 2, 0, 200), (3, 2.5, 4, 250, 400), (9, 5, 6, 480, 580)
    assert joined(2, *pieces) == {5: 5, 3: 5, 9: 5}
    assert joined(0.7, *pieces) == {5: 5, 3: 5, 9: 9}
    assert joined(0.1, *pieces) == {5: 5, 3: 3, 9: 9}


def test_far_away_or_of_another_height_is_someone_else():
    assert joined(2, (1, 0, 2, 0, 200), (2, 2.5, 4, 700, 900)) == {1: 1, 2: 2}
    time_s, ids, tlbr = tracks((1, 0, 2, 0, 200), (2, 2.5, 4, 250, 400))
    tlbr[ids == 2, 1] = 50
    assert np.unique(join_tracks(time_s, ids, tlbr, 2.0)).tolist() == [1, 2]


def test_of_two_candidates_the_nearer_one_continues():
    pieces = (1, 0, 2, 0, 200), (2, 2.5, 4, 290, 400), (3, 2.5, 4, 255, 300)
    assert joined(2, *pieces) == {1: 1, 2: 2, 3: 1}


def test_people_who_are_there_together_stay_two():
    assert joined(2, (1, 0, 2, 0, 200), (2, 1.5, 4, 150, 400)) == {1: 1, 2: 2}


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_join(count):
    ids = np.arange(count)
    got = join_tracks(np.zeros(count), ids, np.ones((count, 4)), 5.0)
    assert got.tolist() == ids.tolist()

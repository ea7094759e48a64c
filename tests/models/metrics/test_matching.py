import numpy as np

from jde_ray.models.metrics.matching import match_boxes, match_rows
from jde_ray.models.metrics.rows import BoxRows


def boxes(*left):
    """Boxes 10 wide and 20 high at these places."""
    return np.array([(x, 0, x + 10, 20) for x in left], float).reshape(-1, 4)


def test_the_largest_sum_wins_over_the_best_pair():
    # 0 and 1 overlap by 9 / 11, but the two pairs of 8 / 12 are more together
    rows, columns = match_boxes(boxes(0, 3), boxes(1, -2))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_an_overlap_of_half_is_enough_and_less_is_not():
    half, less = 10 / 3, 3.4  # IoU (10 - x) / (10 + x)
    assert len(match_boxes(boxes(0), boxes(half))[0]) == 1
    assert len(match_boxes(boxes(0), boxes(less))[0]) == 0
    assert len(match_boxes(boxes(), boxes(0))[0]) == 0


def test_rows_are_matched_within_their_frames():
    truth = BoxRows(np.array([1, 0, 0]), np.array([5, 5, 6]), boxes(0, 100, 0))
    found = BoxRows(np.array([0, 1, 2]), np.array([1, 1, 1]), boxes(100, 0, 0))
    people, tracks = match_rows(truth, found)
    assert (people.tolist(), tracks.tolist()) == ([1, 0], [0, 1])
    assert [len(rows) for rows in match_rows(truth, BoxRows.empty())] == [0, 0]

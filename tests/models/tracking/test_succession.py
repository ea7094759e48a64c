"""Who continues whom beyond doubt, by the boxes of two frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.models.tracking.succession import clear_predecessors, likely_predecessors

NONE = np.zeros((0, 4), np.float32)


def boxes(*left: float) -> np.ndarray:
    """Boxes of 10 x 20 pixels that begin there."""
    return np.array([[x, 0, x + 10, 20] for x in left], np.float32).reshape(-1, 4)


def test_who_moves_a_little_and_is_alone_is_clear() -> None:
    assert clear_predecessors(boxes(0, 50), boxes(51, 2)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (boxes(), boxes(0)),  # who appears
        (boxes(0), boxes(4)),  # who jumps
        (boxes(0, 4), boxes(0)),  # two who become one
        (boxes(0), boxes(0, 4)),  # one who becomes two
    ],
)
def test_who_appears_jumps_or_meets_another_is_not(before: np.ndarray, now: np.ndarray) -> None:
    assert set(clear_predecessors(before, now).tolist()) == {-1}


def test_the_likely_one_overlaps_most() -> None:
    assert likely_predecessors(boxes(0, 4), boxes(3, 30)).tolist() == [1, -1]
    assert likely_predecessors(NONE, boxes(3)).tolist() == [-1]
    assert likely_predecessors(boxes(3), NONE).tolist() == []
    assert clear_predecessors(boxes(3), NONE).tolist() == []


corners = st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), max_size=8)


@given(corners, corners)
def test_a_clear_one_is_clear_in_both_directions(one: list, two: list) -> None:
    before, now = (
        np.array([[x, y, x + 20, y + 40] for x, y in many], np.float32).reshape(-1, 4)
        for many in (one, two)
    )
    forth, back = clear_predecessors(before, now), clear_predecessors(now, before)
    pairs = {(int(a), b) for b, a in enumerate(forth) if a >= 0}
    assert pairs == {(a, int(b)) for a, b in enumerate(back) if b >= 0}
    assert all(likely_predecessors(before, now)[b] == a for a, b in pairs)

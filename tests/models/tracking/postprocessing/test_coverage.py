from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.models.tracking.postprocessing.coverage import CARRIED_FRAMES, Coverage, cover
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


def walk(frames: list[int], pace: tuple[float, float] = (0.0, 0.0), track_id: int = 1):
    """A track of a box of 20 x 40 that moves at a steady pace."""
    frame = np.array(frames, np.int64)
    corner = np.array([100.0, 80.0]) + frame[:, None] * np.array(pace)
    tlbr = np.concatenate([corner, corner + np.array([20, 40])], axis=1)
    return Trajectories.sort(frame, np.full(len(frame), track_id), tlbr, np.ones(len(frame)))


def holds(coverage: Coverage, frame: int, box: np.ndarray) -> bool:
    """Whether one box of the frame holds all of another."""
    own = coverage.in_frame(frame)
    return bool(((own[:, :2] <= box[:2] + 1e-6) & (own[:, 2:] >= box[2:] - 1e-6)).all(axis=1).any())


paces = st.tuples(st.floats(-6, 6), st.floats(-6, 6))
strides = st.integers(1, 4)


@given(st.sets(st.integers(0, 120), min_size=1, max_size=60), paces, strides, st.integers(0, 60))
def test_a_person_at_a_steady_pace_is_covered_around_every_sighting(
    seen: set[int], pace: tuple[float, float], stride: int, shift: int
) -> None:
    frames = sorted((one + shift) * stride for one in seen)
    slower = (pace[0] / stride, pace[1] / stride)
    coverage = cover(walk(frames, slower), stride=stride)
    everywhere = walk(list(range(max(frames) + 40 * stride)), slower).tlbr
    for frame in range(0, max(frames) + 40 * stride, stride):
        near = min(abs(frame - one) for one in frames) <= CARRIED_FRAMES * stride
        # a single sighting says nothing about the pace
        known = len(frames) > 1 and max(np.diff(frames)) <= (CARRIED_FRAMES + 1) * stride
        if near and (known or pace == (0.0, 0.0)):
            assert holds(coverage, frame, everywhere[frame])
        if not near:
            assert len(coverage.in_frame(frame)) == 0
    assert (coverage.frame >= 0).all()
    assert (coverage.frame % stride == 0).all()


@given(st.sets(st.integers(0, 120), min_size=1, max_size=60), paces)
def test_who_stops_where_he_was_last_seen_is_covered_too(seen: set[int], pace: tuple) -> None:
    tracks = walk(sorted(seen), pace)
    coverage = cover(tracks)
    first, last = tracks.frame[0], tracks.frame[-1]
    for step in range(1, CARRIED_FRAMES + 1):
        assert holds(coverage, last + step, tracks.tlbr[-1])
        assert first < step or holds(coverage, first - step, tracks.tlbr[0])


def test_a_gap_is_filled_up_to_the_limit_and_carried_into_from_both_sides_beyond() -> None:
    filled = cover(walk([0, 21]))
    assert all(len(filled.in_frame(frame)) == 1 for frame in range(22))
    longer = cover(walk([0, 60]))
    assert all(len(longer.in_frame(frame)) == 1 for frame in range(21))
    assert all(len(longer.in_frame(frame)) == 0 for frame in range(21, 40))
    assert all(len(longer.in_frame(frame)) == 1 for frame in range(40, 61))


def test_jitter_is_no_pace_that_hides_the_picture() -> None:
    tlbr = np.array([[100, 80, 120, 120], [140, 80, 160, 120]], float)
    tracks = Trajectories.sort(np.arange(2), np.ones(2, int), tlbr, np.ones(2))
    carried = cover(tracks).in_frame(1 + CARRIED_FRAMES)
    assert carried.tolist() == [[140, 80, 160 + 3 * 40, 120]]


def test_no_tracks_and_wrong_shapes() -> None:
    assert len(cover(walk([])).frame) == 0
    with pytest.raises(ValueError, match=r"boxes: got \(2, 4\), expected \(1, 4\)"):
        Coverage(np.zeros(1, int), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="ascending"):
        Coverage(np.array([1, 0]), np.zeros((2, 4)))

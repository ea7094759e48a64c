from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.models.tracking.postprocessing.best_sightings import (
    LEAST_SHARE,
    best_sightings,
    sighting_quality,
)
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

SIZE = (640, 480)


def tracks_of(*rows: tuple[int, int, float, float, float, float, float]) -> Trajectories:
    """Tracks from rows of frame, id, left, top, width, height, score."""
    frame, track_id, x, y, width, height, score = np.array(rows, float).reshape(-1, 7).T
    tlbr = np.stack([x, y, x + width, y + height], axis=1)
    return Trajectories.sort(frame.astype(int), track_id.astype(int), tlbr, score)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((100, 100, 60, 160, 0.9), (100, 100, 30, 80, 0.9)),  # larger
        ((100, 100, 60, 160, 0.9), (100, 100, 60, 160, 0.5)),  # surer
        ((100, 100, 60, 160, 0.9), (400, 100, 60, 160, 0.9)),  # alone
        ((100, 100, 60, 160, 0.9), (0, 100, 60, 160, 0.9)),  # whole
        ((100, 100, 60, 160, 0.9), (-30, 100, 60, 160, 0.9)),  # in the frame
    ],
)
def test_a_better_sighting_is_taken_first(better: tuple, worse: tuple) -> None:
    beside = (410, 100, 60, 160, 0.9)
    tracks = tracks_of((0, 1, *worse), (0, 2, *beside), (50, 1, *better), (50, 2, *beside))
    own = [row for row in best_sightings(tracks, SIZE, 2) if tracks.track_id[row] == 1]
    assert tracks.frame[own[0]] == 50


def test_sightings_are_spread_over_the_time_of_the_track() -> None:
    rows = [(i, 7, 100, 100, 60, 160, 0.9 - 0.1 * (i < 900)) for i in range(1000)]
    tracks = tracks_of(*rows)  # the last hundred are the best ones
    frames = tracks.frame[best_sightings(tracks, SIZE, 3)]
    assert frames[0] == 900
    assert np.diff(np.sort(frames)).min() >= 999 / 6


def test_a_track_outside_the_frame_or_without_rows_has_none() -> None:
    assert len(best_sightings(tracks_of((0, 1, -90, 100, 60, 160, 0.9)), SIZE, 3)) == 0
    assert len(best_sightings(tracks_of(), SIZE, 3)) == 0


sides = st.floats(4, 300)
rows = st.tuples(
    st.integers(0, 60), st.integers(1, 4), st.floats(-200, 700), st.floats(-200, 500), sides, sides
)


@given(
    st.lists(st.tuples(rows, st.floats(0, 1)), max_size=40, unique_by=lambda one: one[0][:2]),
    st.integers(1, 5),
)
def test_each_track_has_its_best_ones_apart_and_none_that_is_bad(rows: list, most: int) -> None:
    tracks = tracks_of(*[(*place, score) for place, score in rows])
    quality, chosen = sighting_quality(tracks, SIZE), best_sightings(tracks, SIZE, most)
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(tracks.track_id[chosen]) >= 0).all()
    for first, end in zip(*tracks.spans(), strict=True):
        own = chosen[(chosen >= first) & (chosen < end)]
        assert len(own) <= most
        best = quality[first:end].max()
        assert (len(own) == 0) == (best == 0)
        assert not len(own) or quality[own[0]] == best
        assert (quality[own] >= LEAST_SHARE * best).all()
        span = tracks.frame[end - 1] - tracks.frame[first]
        gaps = np.diff(np.sort(tracks.frame[own]))
        assert (gaps >= span / (2 * most)).all()

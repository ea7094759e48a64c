"""Cutting, and the evidence that a video gives about itself."""

from __future__ import annotations

import numpy as np
import pytest
from planted_tracks import Crowd

from jde_ray.models.tracking.postprocessing.appearance import calibrate, sum_ranges
from jde_ray.models.tracking.postprocessing.cutting import cut, piece_means
from jde_ray.models.tracking.postprocessing.glimpses import take_glimpses
from jde_ray.models.tracking.postprocessing.motion import observe

NEAR, FAR = np.array([0.3]), np.array([1.2])


def crowd_of(number: int, noise: float = 0.15) -> Crowd:
    crowd = Crowd(noise)
    for person in range(number):
        crowd.walk(person, person, range(150), 200.0 * person, speed=person - 2)
    return crowd


def test_tracks_are_cut_at_gaps_and_where_the_person_changes() -> None:
    crowd = crowd_of(5)
    crowd.walk(7, 9, range(40), 50)
    crowd.walk(7, 9, range(43, 80), 50)
    crowd.walk(8, 9, range(80, 120), 50)
    tracks, looks, person = crowd.build()
    pieces, evidence = cut(take_glimpses(tracks, looks), 10, 1, 2.0)
    assert evidence is not None
    rows = pieces.rows[5:] - pieces.rows[5, 0]
    assert rows[:2].tolist() == [[0, 40], [40, rows[2, 0]]]
    assert abs(rows[2, 0] - 77) <= 5  # glimpses have five sightings
    assert pieces.continues.tolist() == [False] * 6 + [True, False]
    assert len(set(person[slice(*pieces.rows[-1] + [5, 0])].tolist())) == 1
    pieces, evidence = cut(take_glimpses(tracks), 10, 1, 2.0)
    assert evidence is None
    assert (pieces.rows[5:] - pieces.rows[5, 0]).tolist() == [[0, 40], [40, 117]]


def test_means_of_a_piece_are_of_its_ends_and_of_all() -> None:
    tracks, looks, _ = crowd_of(2).build()
    glimpses = take_glimpses(tracks, looks)
    pieces, _ = cut(glimpses, 10, 1, 2.0)
    assert glimpses.sums is not None
    head, tail, whole = piece_means(glimpses.sums, pieces)
    assert np.linalg.norm(head, axis=1) == pytest.approx([1, 1])
    first = glimpses.sums[:3].sum(axis=0)
    assert head[0] == pytest.approx(first / np.linalg.norm(first), abs=1e-6)
    assert whole[0] == pytest.approx(glimpses.sums[:30].sum(axis=0), rel=1e-4)
    last = glimpses.sums[57:].sum(axis=0)
    assert tail[1] == pytest.approx(last / np.linalg.norm(last), abs=1e-6)
    ranges = sum_ranges(glimpses.sums, np.array([0, 5, 1]), np.array([2, 6, 1]))
    assert ranges[2].tolist() == [0] * 16
    assert ranges[0] == pytest.approx(glimpses.sums[:2].sum(axis=0), rel=1e-6)


@pytest.mark.parametrize(("noise", "is_same"), [(0.05, False), (0.6, True)])
def test_a_video_sets_its_own_scale_of_appearance(noise: float, is_same: bool) -> None:
    """A distance of .9 is far where looks hardly change, and near where they do."""
    tracks, looks, _ = crowd_of(8, noise).build()
    whole = np.stack([np.arange(0, 240, 30), np.arange(30, 270, 30)], axis=1)
    evidence = calibrate(take_glimpses(tracks, looks), whole, 10)
    gap_s, middle = np.array([1.0]), np.array([0.9])
    assert (evidence.ratio(middle, middle, gap_s)[0] > 0) == is_same
    assert evidence.ratio(1.5 * middle, 1.5 * middle, gap_s)[0] < -2
    # 28 pairs of people are too few to count: a likeness says what it says among 50
    assert evidence.ratio(0 * middle, 0 * middle, gap_s)[0] == pytest.approx(np.log(50))


def test_walks_go_on_and_people_do_not_jump() -> None:
    tracks, _, _ = crowd_of(5).build()
    pieces = np.stack([np.arange(0, 750, 150), np.arange(150, 900, 150)], axis=1)
    motion = observe(tracks, pieces, 10)
    # the fifth walks at 2 pixels per frame: to their own place, or to the third's
    own = motion.ratio(np.array([640]), np.array([660]))
    other = motion.ratio(np.array([640]), np.array([360]))
    assert own[0] > 3
    assert other[0] < -3
    assert motion.ratio(np.array([640]), np.array([641]))[0] > own[0]


def test_a_video_of_single_sightings_has_usual_evidence() -> None:
    crowd = Crowd()
    for person in range(4):
        crowd.walk(person, person, range(person, person + 1), 100.0 * person)
    tracks, looks, _ = crowd.build()
    pieces, evidence = cut(take_glimpses(tracks, looks), 10, 1, 2.0)
    assert evidence is not None
    assert evidence.ratio(NEAR, NEAR, np.array([0.5]))[0] > 0
    assert evidence.ratio(FAR, FAR, np.array([0.5]))[0] < 0
    motion = observe(tracks, pieces.rows, 10)
    assert np.isfinite(motion.ratio(np.array([0, 1]), np.array([1, 3]))).all()

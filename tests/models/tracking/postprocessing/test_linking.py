from __future__ import annotations

import numpy as np
import pytest
from planted_tracks import Crowd, ids_by_person, people_by_id

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing import linking
from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
from jde_ray.models.tracking.postprocessing.linking import link
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

RATE = 10


def bystanders(crowd: Crowd, frames: int = 200) -> None:
    """Four people who stand far apart: the video's own scale of same and different."""
    for number in range(4):
        crowd.walk(number, number + 1, range(frames), 200.0 * number, y=300)


def joined(crowd: Crowd, **settings: float) -> tuple[Trajectories, IntArray]:
    """Tracks after linking, and the person of each of their rows."""
    tracks, looks, person = crowd.build()
    after = link(tracks, LinkSettings(**settings), RATE, 1, looks)
    of_source = np.empty(len(person), int)
    of_source[tracks.source] = person
    assert sorted(after.source.tolist()) == list(range(len(tracks)))
    return after, of_source[after.source]


def test_two_who_swapped_ids_get_them_back() -> None:
    crowd = Crowd()
    bystanders(crowd)
    for person, ids, x, speed in ((8, (20, 21), 100, 1.0), (9, (21, 20), 220, -1.0)):
        crowd.walk(person, ids[0], range(60), x, speed=speed)
        crowd.walk(person, ids[1], range(63, 130), x, speed=speed)
    after, person = joined(crowd)
    assert all(len(shown) == 1 for shown in people_by_id(after, person).values())
    assert all(len(ids) == 1 for ids in ids_by_person(after, person).values())
    assert {20, 21} < set(after.track_id.tolist())


def test_a_track_that_changes_to_another_person_without_a_gap_is_cut() -> None:
    crowd = Crowd()
    bystanders(crowd)
    crowd.walk(8, 30, range(60), 100)
    crowd.walk(9, 30, range(60, 120), 104)
    after, person = joined(crowd)
    ids = ids_by_person(after, person)
    assert ids[8].isdisjoint(ids[9])
    assert sorted(len(shown) for shown in people_by_id(after, person).values()) == [1] * 6


def test_who_looks_like_nobody_else_keeps_the_id_after_a_while() -> None:
    crowd = Crowd(width=48)
    for number in range(40):  # so many that a likeness means something
        crowd.walk(number, 100 + number, range(130), 200.0 * number, y=300)
    crowd.walk(45, 20, range(40), 50)
    crowd.walk(46, 21, range(50, 80), 60)  # somebody else, in the same place
    crowd.walk(45, 22, range(90, 130), 120)
    after, person = joined(crowd)
    assert ids_by_person(after, person)[45] == {20}
    assert ids_by_person(after, person)[46] == {21}
    strict, person = joined(crowd, max_gap_s=4)
    assert ids_by_person(strict, person)[45] == {20, 22}


def test_among_few_people_no_likeness_is_proof() -> None:
    crowd = Crowd()
    bystanders(crowd)
    crowd.walk(8, 20, range(40), 50)
    crowd.walk(8, 22, range(160, 200), 120)
    after, person = joined(crowd)
    assert ids_by_person(after, person)[8] == {20, 22}


def test_nobody_comes_back_from_where_they_cannot_be() -> None:
    crowd = Crowd()
    bystanders(crowd)
    crowd.walk(8, 20, range(100), 0)
    crowd.walk(8, 21, range(103, 180), 900)  # 22 heights in .3 s
    after, person = joined(crowd)
    assert ids_by_person(after, person)[8] == {20, 21}


def test_without_embeddings_short_gaps_are_closed_by_motion() -> None:
    crowd = Crowd()
    bystanders(crowd)
    crowd.walk(8, 20, range(60), 0, speed=2)
    crowd.walk(8, 21, range(66, 120), 0, speed=2)
    crowd.walk(9, 22, range(64, 120), 600)
    crowd.walk(8, 23, range(170, 200), 300)  # who knows who that is
    tracks, _, person = crowd.build()
    after = link(tracks, LinkSettings(), RATE)
    of_source = np.empty(len(person), int)
    of_source[tracks.source] = person
    ids = ids_by_person(after, of_source[after.source])
    assert ids[8] == {20, 23}
    assert ids[9] == {22}


def test_gaps_that_the_tracker_bridged_stay_bridged_without_embeddings() -> None:
    crowd = Crowd()
    bystanders(crowd)
    crowd.walk(8, 20, range(60), 100)
    crowd.walk(8, 20, range(100, 160), 104)
    tracks, _, _ = crowd.build()
    after = link(tracks, LinkSettings(), RATE)
    assert after.track_id.tolist() == tracks.track_id.tolist()


def random_tracks(seed: int) -> tuple[Trajectories, FloatArray]:
    """Tracks in any mixture of people, places and gaps."""
    dice = np.random.default_rng(seed)
    crowd = Crowd(noise=dice.uniform(0.05, 1.0))
    for number in range(dice.integers(2, 25)):
        first = 0
        for _ in range(dice.integers(1, 5)):
            first += int(dice.integers(1, 30))
            end = first + int(dice.integers(1, 40))
            place, person = dice.uniform(0, 300), int(dice.integers(6))
            crowd.walk(person, number, range(first, end), place, speed=dice.normal())
            first = end
    tracks, looks, _ = crowd.build()
    return tracks, looks


@pytest.mark.parametrize("seed", range(8))
def test_nobody_is_twice_in_a_frame_and_no_row_is_lost(seed: int) -> None:
    tracks, looks = random_tracks(seed)
    for own in (looks, None):
        # Trajectories refuse an id with two rows in a frame
        after = link(tracks, LinkSettings(doubt=0, absence=0), RATE, 1, own)
        assert sorted(after.source.tolist()) == list(range(len(tracks)))
        order = np.argsort(after.source)
        was = np.argsort(tracks.source)
        assert (after.frame[order] == tracks.frame[was]).all()
        assert (after.tlbr[order] == tracks.tlbr[was]).all()


def test_the_order_of_rows_does_not_matter() -> None:
    tracks, looks = random_tracks(3)
    before = link(tracks, LinkSettings(), RATE, 1, looks)
    # the same rows by frame, as a run writes them
    order = np.lexsort((tracks.track_id, tracks.frame))
    shuffled = Trajectories.sort(
        tracks.frame[order], tracks.track_id[order], tracks.tlbr[order], tracks.score[order]
    )
    after = link(shuffled, LinkSettings(), RATE, 1, looks[tracks.source][order])
    assert after.track_id.tolist() == before.track_id.tolist()
    assert after.frame.tolist() == before.frame.tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_few_rows_of_one_track_stay_as_they_are(count: int) -> None:
    crowd = Crowd()
    crowd.walk(1, 7, range(1000, 1000 + count), 5)
    if not count:
        empty = np.zeros(0, np.int64)
        tracks = Trajectories(empty, empty, np.zeros((0, 4)), np.zeros(0), empty)
        looks = np.zeros((0, 16), np.float16)
    else:
        tracks, looks, _ = crowd.build()
    for own in (looks, None):
        after = link(tracks, LinkSettings(), RATE, 1, own)
        assert after.track_id.tolist() == [7] * count


def test_a_stride_is_no_gap() -> None:
    crowd = Crowd()
    for number in range(3):
        crowd.walk(number, number, range(0, 200, 5), 100.0 * number)
    tracks, looks, _ = crowd.build()
    after = link(tracks, LinkSettings(), RATE, 5, looks)
    assert after.track_id.tolist() == tracks.track_id.tolist()


def test_pieces_are_compared_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    tracks, looks = random_tracks(1)
    whole = link(tracks, LinkSettings(), RATE, 1, looks)
    monkeypatch.setattr(linking, "_PAIRS", 3)
    assert link(tracks, LinkSettings(), RATE, 1, looks).track_id.tolist() == whole.track_id.tolist()


@pytest.mark.parametrize("wrong", [{"max_gap_s": 0}, {"doubt": -1}, {"change": float("nan")}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="relink: got"):
        LinkSettings(**wrong)

import math
import tracemalloc

import numpy as np
import pytest

from jde_ray.models.metrics.embedding_gaps import (
    FIVE,
    GapSimilarities,
    Sightings,
    compare_by_gap,
)


def sightings(frames, identities, vectors, clean=None):
    is_clean = np.ones(len(frames), bool) if clean is None else np.asarray(clean)
    return Sightings(
        np.asarray(vectors, np.float32), np.asarray(identities), np.asarray(frames), is_clean
    )


def crowd(seed=0, people=6, frames=120, spread=0.6, width=8):
    """People seen in every frame, in any order, whose look drifts with time."""
    random = np.random.default_rng(seed)
    looks = random.normal(size=(people, 1, width))
    drift = np.cumsum(random.normal(0, 0.12, (people, frames, width)), axis=1)
    vectors = (looks + drift + random.normal(0, spread, drift.shape)).reshape(-1, width)
    order = random.permutation(people * frames)
    person, frame = np.divmod(order, frames)
    return sightings(frame, person, vectors[order])


def all_pairs(found, low, high):
    """Similarities of one person's and of different people's pairs, from every pair at once."""
    unit = found.embeddings / np.linalg.norm(found.embeddings, axis=1, keepdims=True)
    apart = found.frames[None, :] - found.frames[:, None]
    first, second = np.nonzero((apart >= low) & (apart <= high))
    similar = (unit[first] * unit[second]).sum(axis=1)
    same = found.identities[first] == found.identities[second]
    return similar[same], similar[~same]


def test_all_pairs_are_compared_where_they_are_few():
    found = crowd(people=3, frames=30)
    for gap, pairs in zip(
        ((1, 5), (7, 9)), compare_by_gap(found, gaps=((1, 5), (7, 9))), strict=True
    ):
        same, different = all_pairs(found, *gap)
        assert np.sort(pairs.same) == pytest.approx(np.sort(same), abs=1e-5)
        assert np.sort(pairs.different) == pytest.approx(np.sort(different), abs=1e-5)
        assert pairs.area == pytest.approx((same[:, None] > different).mean(), abs=1e-6)


def test_a_sample_estimates_all_pairs():
    found = crowd(people=8, frames=200)
    (sampled,) = compare_by_gap(found, gaps=((10, 60),), most_pairs=4000)
    (whole,) = compare_by_gap(found, gaps=((10, 60),), most_pairs=10**6)
    assert len(sampled.same) == 4000
    assert len(sampled.different) < 12_000 < len(whole.different)
    assert sampled.area == pytest.approx(whole.area, abs=0.01)
    assert sampled.accepted(0.05) == pytest.approx(whole.accepted(0.05), abs=0.03)
    (again,) = compare_by_gap(found, gaps=((10, 60),), most_pairs=4000)
    assert np.array_equal(again.same, sampled.same)  # the seed is fixed


def test_looks_that_drift_are_told_apart_less_over_longer_gaps_and_better_in_fives():
    found = crowd(seed=2)
    one, five = (compare_by_gap(found, number=number) for number in (1, FIVE))
    rates = [pairs.accepted(0.05) for pairs in one]
    assert rates[0] > rates[1] > rates[2]
    assert [b.area > a.area for a, b in zip(one[:2], five[:2], strict=True)] == [True, True]


def test_the_order_of_rows_changes_nothing():
    found = crowd(seed=1, people=3, frames=40)
    back = Sightings(found.embeddings[::-1], found.identities[::-1], found.frames[::-1],
                     found.is_clean[::-1])  # fmt: skip
    for number in (1, FIVE):
        a, b = compare_by_gap(found, number=number)[0], compare_by_gap(back, number=number)[0]
        assert np.sort(a.same) == pytest.approx(np.sort(b.same), abs=1e-5)


def test_a_mean_takes_clean_sightings_of_one_person_within_20_frames():
    frames = [0, 1, 2, 3, 4, 5, 30, 31, 32, 33, 34]
    looks = np.tile([1.0, 0.0], (11, 1))
    looks[3] = (0.0, 1.0)  # somebody else is in front
    clean = np.arange(11) != 3
    mine = sightings(frames, [1] * 11, looks, clean)
    (pairs,) = compare_by_gap(mine, number=FIVE, gaps=((10, 60),))
    assert pairs.same == pytest.approx([1.0])  # frames 0 to 5 against 30 to 34
    (pairs,) = compare_by_gap(mine, number=FIVE, gaps=((26, 60),))
    assert len(pairs.same) == 0  # from the last of the first five, 5, to the first of the others
    spread = sightings([0, 5, 10, 15, 20, *frames[6:]], [1] * 10, looks[:10])
    (pairs,) = compare_by_gap(spread, number=FIVE, gaps=((1, 60),))
    assert len(pairs.same) == 0  # 21 frames
    two = sightings(frames, [1] * 5 + [2] * 6, looks)
    assert len(compare_by_gap(two, number=FIVE, gaps=((1, 60),))[0].different) == 1


def test_shares_and_areas_of_known_similarities():
    pairs = GapSimilarities(np.array([0.9, 0.5, 0.2]), np.array([0.1, 0.3, 0.6, 0.2]))
    # 4 + 3 + 1.5 of 12
    assert pairs.area == pytest.approx(8.5 / 12)
    assert pairs.accepted(0) == pytest.approx(1 / 3)
    assert pairs.accepted(0.5) == pytest.approx(2 / 3)
    both = pairs + GapSimilarities(np.ones(1), np.zeros(1))
    assert (len(both.same), len(both.different)) == (4, 5)


def test_without_pairs_of_both_kinds_there_is_no_figure():
    alone = sightings([0, 1], [1, 1], np.eye(2))
    (pairs,) = compare_by_gap(alone, gaps=((1, 5),))
    assert len(pairs.same) == 1
    assert math.isnan(pairs.area)
    assert math.isnan(pairs.accepted(0.05))
    nobody = sightings([], [], np.zeros((0, 4)))
    for number in (1, FIVE):
        assert all(math.isnan(one.area) for one in compare_by_gap(nobody, number=number))


def test_unknown_people_are_left_out():
    found = sightings([0, 1, 2, 3], [1, -1, -1, 1], np.eye(4))
    (pairs,) = compare_by_gap(found, gaps=((1, 5),))
    assert (len(pairs.same), len(pairs.different)) == (1, 0)


def test_memory_does_not_grow_with_the_pairs():
    def peak(frames):
        found = crowd(people=4, frames=frames, width=4)
        tracemalloc.start()
        compare_by_gap(found, most_pairs=500)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(2000) < 4e6  # 8,000 sightings have 8 million pairs of the longest gaps


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match=r"sightings: got shapes"):
        sightings([0, 1], [1], np.eye(2))

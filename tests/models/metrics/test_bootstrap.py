import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.metrics.bootstrap import (
    FEW_SEQUENCES,
    LEAST_SEQUENCES,
    Difference,
    differences,
    draw_sequences,
    resampled_figures,
)
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import COUNTS, RATIOS, SequenceScores, score_sequence

NUM_FRAMES = 12


def walk(seed, *, num_people=4):
    """Truth of a sequence, and the tracks of somebody who loses and mixes up people in it."""
    rng = np.random.default_rng(seed)
    frame, person = (grid.ravel() for grid in np.meshgrid(np.arange(NUM_FRAMES), range(num_people)))
    x = 7.0 * person + frame
    tlbr = np.stack([x, 0 * x, x + 10, 0 * x + 20], axis=1)
    truth = BoxRows(frame, person, tlbr)
    found = rng.random(len(frame)) > 0.2
    shaken = tlbr[found] + rng.normal(0, 1.2, (found.sum(), 1))
    after = frame[found] >= rng.integers(2, NUM_FRAMES)  # then the ids of everybody move on
    return truth, BoxRows(frame[found], person[found] + after, shaken)


def result(seed, names):
    return {name: score_sequence(*walk(seed + number)) for number, name in enumerate(names)}


def joined(parts):
    """Sequences one after the other, as one: their frames and identities stay apart."""
    return BoxRows.concatenate(
        [
            BoxRows(rows.frame + 100 * number, rows.track_id + 100 * number, rows.tlbr)
            for number, rows in enumerate(parts)
        ]
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_a_draw_scores_as_its_sequences_joined_to_one(seed, drawn):
    pairs = [walk(seed + number) for number in range(4)]
    scores = [score_sequence(*pair) for pair in pairs]
    truth = joined([pairs[number][0] for number in drawn])
    tracks = joined([pairs[number][1] for number in drawn])
    expected = score_sequence(truth, tracks).figures()
    times = np.bincount(drawn, minlength=4)[None]
    figures = resampled_figures(scores, times)
    assert list(figures) == [*RATIOS, *COUNTS]
    for name, value in expected.items():
        assert figures[name] == pytest.approx([value], rel=1e-12), name
    for name in ("MOTA", "IDF1", "IDP", "IDR", *COUNTS):  # of whole numbers alone
        assert figures[name].tolist() == [expected[name]], name


def test_every_sequence_once_scores_as_all_together():
    scores = result(3, "abcd")
    figures = resampled_figures(list(scores.values()), np.ones((1, 4), int))
    expected = sum(scores.values(), SequenceScores()).figures()
    assert {name: value.item() for name, value in figures.items()} == pytest.approx(expected)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_equal_results_differ_by_0_and_by_nothing_in_any_draw(seed, number):
    names = "abcdef"[:number]
    found = differences(
        {"ours": result(seed, names), "theirs": result(seed, names)}, num_resamples=50
    )
    assert list(found) == ["theirs"]
    for one in found["theirs"].values():
        assert one.value == 0
        if number >= LEAST_SEQUENCES:
            assert (one.low, one.high) == (0, 0)
        assert one.has_interval == (number >= LEAST_SEQUENCES)
        assert not one.is_clear


def test_intervals_depend_on_the_seed_and_on_no_order_and_no_third_result():
    ours, theirs, third = (result(seed, "abcde") for seed in (0, 50, 90))
    found = differences({"ours": ours, "theirs": theirs}, num_resamples=300)
    assert found == differences({"ours": ours, "theirs": theirs}, num_resamples=300)
    assert found != differences({"ours": ours, "theirs": theirs}, num_resamples=300, seed=1)
    turned = {name: dict(reversed(one.items())) for name, one in (("o", ours), ("t", theirs))}
    for figure, one in differences(turned, num_resamples=300)["t"].items():
        assert (one.low, one.high) == (found["theirs"][figure].low, found["theirs"][figure].high)
        assert one.value == pytest.approx(found["theirs"][figure].value)
    more = differences({"ours": ours, "third": third, "theirs": theirs}, num_resamples=300)
    assert more["theirs"] == found["theirs"]
    back = differences({"theirs": theirs, "ours": ours}, num_resamples=300)["ours"]
    for figure, one in found["theirs"].items():
        assert (-back[figure].value, -back[figure].high, -back[figure].low) == pytest.approx(
            (one.value, one.low, one.high)
        )


def test_a_result_that_is_better_in_every_sequence_is_clearly_better():
    truths = [walk(seed)[0] for seed in range(6)]
    good = {str(n): score_sequence(truth, truth) for n, truth in enumerate(truths)}
    poor = {str(n): score_sequence(*walk(n)) for n in range(6)}
    found = differences({"poor": poor, "good": good})["good"]
    for name in ("HOTA", "MOTA", "IDF1"):
        assert 0 < found[name].low <= found[name].value <= found[name].high
        assert found[name].is_clear
    assert found["FN"].value < 0


def test_the_interval_is_that_of_the_draws():
    ours, theirs = result(0, "abcd"), result(70, "abcd")
    draws = draw_sequences(4, 400, seed=5)
    assert draws.shape == (400, 4)
    assert set(draws.sum(axis=1)) == {4}
    gap = (
        resampled_figures(list(theirs.values()), draws)["IDF1"]
        - resampled_figures(list(ours.values()), draws)["IDF1"]
    )
    found = differences({"a": ours, "b": theirs}, num_resamples=400, seed=5)["b"]["IDF1"]
    assert (found.low, found.high) == pytest.approx(np.quantile(gap, (0.025, 0.975)))


def one_of(boxes, matched):
    """Scores of a sequence with one person, found in so many boxes."""
    truth = BoxRows(np.arange(boxes), np.zeros(boxes, int), np.tile([0.0, 0, 9, 9], (boxes, 1)))
    return score_sequence(truth, truth[:matched])


def test_intervals_of_few_sequences_are_too_narrow_by_as_much_as_is_said():
    """Of 10 sequences, 95 % intervals hold the true difference in about 90 % of cases."""
    rng = np.random.default_rng(0)
    scored = [one_of(20, matched) for matched in range(21)]
    truth = 100 * 0.5  # each result finds so many boxes on average, so that they differ by 0
    held = []
    for number in (5, FEW_SEQUENCES):
        inside = []
        for seed in range(40):
            ours, theirs = (
                {str(n): scored[k] for n, k in enumerate(rng.binomial(20, truth / 100, number))}
                for _ in range(2)
            )
            found = differences({"a": ours, "b": theirs}, num_resamples=100, seed=seed)["b"]["Rcll"]
            inside.append(found.low <= 0 <= found.high)
        held.append(np.mean(inside))
    assert 0.7 < held[0] <= held[1] < 0.98


@pytest.mark.parametrize("names", ["", "a", "ab"])
def test_few_sequences_have_a_difference_and_no_interval(names):
    found = differences({"a": result(0, names), "b": result(9, names)})["b"]["MOTA"]
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.has_interval
    assert math.isnan(found.value) == (names == "")


def test_sequences_without_people_are_no_reason_to_fail():
    nobody = score_sequence(BoxRows.empty(), BoxRows.empty())
    empty = {"x": nobody, "y": nobody, "z": nobody}
    found = differences({"a": empty, "b": empty})["b"]
    assert math.isnan(found["HOTA"].value)
    assert not found["HOTA"].has_interval
    one = {**empty, "z": score_sequence(*walk(1))}  # some draws have nobody in them
    two = {**empty, "z": score_sequence(*walk(2))}
    found = differences({"a": one, "b": two})["b"]["MOTA"]
    assert found.low == pytest.approx(found.high) == pytest.approx(found.value)


def test_results_of_other_sequences_are_refused():
    with pytest.raises(ValueError, match="sequences: a and b differ in s, t, expected the same"):
        differences({"a": result(0, "rs"), "b": result(0, "rt")})


def test_an_interval_that_touches_0_is_not_clear():
    assert not Difference(1.0, 0.0, 2.0).is_clear
    assert Difference(1.0, 0.5, 2.0).is_clear
    assert Difference(-1.0, -2.0, -0.5).is_clear
    assert not Difference(1.0).is_clear


def test_a_difference_is_written_with_its_sign_and_interval():
    assert Difference(1.24, -0.3, 2.6).text() == "+1.2 [-0.3, +2.6]"
    assert Difference(-12.0, -30.0, 4.0).text(is_count=True) == "-12 [-30, +4]"
    assert Difference(0.0).text() == "+0.0"
    assert Difference(math.nan).text() == "-"

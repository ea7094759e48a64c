import math

import numpy as np
import pytest
from box_rows import make

from jde_ray.models.metrics.rows import BoxRows, by_frame
from jde_ray.models.metrics.tracking import (
    COUNTS,
    RATIOS,
    SequenceScores,
    best_results,
    score_sequence,
    summarize,
)


def test_perfect_tracks_score_100_whatever_their_ids():
    truth = make(*[(f, i, 100 * i + f) for f in range(5) for i in (1, 2)])
    tracks = make(*[(f, i + 7, 100 * i + f) for f in range(5) for i in (1, 2)])
    scores = summarize({"a": score_sequence(truth, tracks)})
    figures = scores["a"].figures()
    assert list(figures) == [*RATIOS, *COUNTS]
    assert [figures[name] for name in RATIOS] == pytest.approx([100.0] * len(RATIOS))
    assert [figures[name] for name in COUNTS] == [0, 0, 0, 2, 0, 0, 0]
    assert scores["OVERALL"].figures() == figures


def test_sequences_add_up():
    truth = make(*[(f, 1, 0) for f in range(4)])
    good, none = score_sequence(truth, truth), score_sequence(truth, BoxRows.empty())
    scores = summarize({"good": good, "none": none})
    assert list(scores) == ["good", "none", "OVERALL"]
    overall = scores["OVERALL"].figures()
    assert overall["MOTA"] == overall["DetA"] == overall["Rcll"] == 50
    assert overall["IDF1"] == pytest.approx(100 * 2 / 3)
    assert (overall["MT"], overall["ML"]) == (1, 1)
    assert summarize({}) == {}


def test_tracks_of_nobody_score_0():
    figures = score_sequence(make((0, 1, 0)), BoxRows.empty()).figures()
    assert {figures[name] for name in RATIOS if name != "LocA"} == {0}
    assert (figures["FN"], figures["FP"], figures["ML"]) == (1, 0, 1)


def test_without_truth_ratios_are_nan_and_counts_remain():
    figures = score_sequence(BoxRows.empty(), make((0, 1, 0))).figures()
    assert all(math.isnan(figures[name]) for name in RATIOS)
    assert figures["FP"] == 1
    assert math.isnan(SequenceScores().figures()["HOTA"])


def test_an_id_twice_in_a_frame_is_refused():
    twice = make((3, 8, 0), (3, 8, 50))
    with pytest.raises(ValueError, match="tracks: got id 8 twice in frame 3"):
        score_sequence(make((3, 1, 0)), twice)


def test_by_frame_walks_the_union_of_frames():
    walked = [(f, [len(i) for i in rows]) for f, rows in by_frame(make((4, 1, 0)), make((2, 1, 0)))]
    assert walked == [(2, [0, 1]), (4, [1, 0])]


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"rows: got shapes \(\(2,\), \(1,\), \(1, 4\)\)"):
        BoxRows(np.zeros(2, int), np.zeros(1, int), np.zeros((1, 4)))


def test_the_best_of_a_column_is_its_better_side_as_shown():
    table = {
        "a": {"HOTA": 50.04, "IDs": 7, "PT": 3, "MOTA": math.nan, "FN": 2},
        "b": {"HOTA": 49.96, "IDs": 9, "PT": 5, "MOTA": 10.0, "FN": 2},
        "c": {"HOTA": 41.0, "IDs": 7, "PT": 1, "MOTA": -3.0, "FN": 2},
    }
    assert best_results(table, "HOTA") == {"a", "b"}  # both are shown as 50.0
    assert best_results(table, "IDs") == {"a", "c"}
    assert best_results(table, "MOTA") == {"b"}
    assert not best_results(table, "PT")  # neither more nor less is better
    assert not best_results(table, "FN")  # all are equal
    assert not best_results({"a": {"MOTA": math.nan}}, "MOTA")


def test_every_figure_has_a_better_side_or_none():
    truth = make(*[(f, i, 100 * i + f) for f in range(5) for i in (1, 2)])
    perfect = score_sequence(truth, truth).figures()
    half = truth[truth.track_id == 1]
    poor = score_sequence(
        truth,
        BoxRows(
            np.append(half.frame, 9),
            np.append(half.track_id + half.frame // 3, 9),
            np.vstack([half.tlbr + 1.0, [0, 0, 9, 9]]),
        ),
    ).figures()
    results = {"perfect": perfect, "poor": poor}
    for name in (*RATIOS, *COUNTS):
        assert best_results(results, name) <= {"perfect"}, name
    assert best_results(results, "HOTA") == best_results(results, "IDs") == {"perfect"}

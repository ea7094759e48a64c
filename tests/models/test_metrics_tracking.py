import math

import numpy as np
import pytest

from models.metrics.rows import BoxRows, by_frame
from models.metrics.tracking import score_sequence, summarize, without_distractors


def make(*rows):
    """Rows of (frame, id, x): boxes 10 wide and 20 high."""
    if not rows:
        return BoxRows.empty()
    tlbr = [(x, 0, x + 10, 20) for _, _, x in rows]
    frames, ids = [row[0] for row in rows], [row[1] for row in rows]
    return BoxRows(np.array(frames), np.array(ids), np.array(tlbr, float))


def test_perfect_tracks_score_one_whatever_their_ids():
    truth = make(*[(f, i, 100 * i + f) for f in range(5) for i in (1, 2)])
    tracks = make(*[(f, i + 7, 100 * i + f) for f in range(5) for i in (1, 2)])
    scores = summarize({"a": score_sequence(truth, tracks)})
    assert scores["a"].mota == scores["a"].idf1 == 1
    assert scores["OVERALL"] == scores["a"]
    assert (scores["a"].num_frames, scores["a"].num_boxes, scores["a"].num_ids) == (5, 10, 2)


def test_a_switch_a_miss_and_a_false_box_are_counted():
    truth = make(*[(f, 1, 0) for f in range(6)])
    tracks = make((0, 1, 0), (1, 1, 0), (2, 2, 0), (3, 2, 0), (4, 2, 0), (4, 9, 500))
    score = summarize({"a": score_sequence(truth, tracks)})["a"]
    assert (score.num_switches, score.num_misses, score.num_false_positives) == (1, 1, 1)
    assert score.mota == pytest.approx(1 - 3 / 6)
    assert score.idf1 == pytest.approx(2 * 3 / (6 + 6))


def test_overlap_below_one_half_is_no_match():
    truth, tracks = make((0, 1, 0)), make((0, 1, 4))  # IoU 6 / 14
    score = summarize({"a": score_sequence(truth, tracks)})["a"]
    assert (score.num_misses, score.num_false_positives) == (1, 1)


def test_sequences_add_up():
    truth = make(*[(f, 1, 0) for f in range(4)])
    good, none = score_sequence(truth, truth), score_sequence(truth, BoxRows.empty())
    scores = summarize({"good": good, "none": none})
    assert list(scores) == ["good", "none", "OVERALL"]
    assert scores["OVERALL"].mota == 0.5
    assert (scores["OVERALL"].mostly_tracked, scores["OVERALL"].mostly_lost) == (1, 1)


def test_without_truth_ratios_are_nan_and_counts_remain():
    score = summarize({"a": score_sequence(BoxRows.empty(), make((0, 1, 0)))})["a"]
    assert math.isnan(score.mota)
    assert score.num_false_positives == 1
    both = summarize({"a": score_sequence(BoxRows.empty(), BoxRows.empty())})["a"]
    assert (both.num_frames, both.num_boxes) == (0, 0)
    assert summarize({}) == {}


def test_tracks_on_distractors_are_left_out_and_those_on_people_are_not():
    truth, ignore = make((0, 1, 0)), make((0, 5, 100))
    tracks = make((0, 1, 0), (0, 2, 101), (0, 3, 300))
    left = without_distractors(truth, tracks, ignore, BoxRows.empty())
    assert left.track_id.tolist() == [1, 3]
    score = summarize({"a": score_sequence(truth, tracks, ignore)})["a"]
    assert (score.num_false_positives, score.num_misses) == (1, 0)


def test_a_person_beside_a_distractor_keeps_the_track_that_fits_best():
    truth, ignore = make((0, 1, 0)), make((0, 5, 3))
    tracks = make((0, 1, 0))
    assert len(without_distractors(truth, tracks, ignore, BoxRows.empty())) == 1
    nobody = BoxRows.empty()
    assert len(without_distractors(nobody, tracks, ignore, nobody)) == 0
    assert len(without_distractors(nobody, tracks, ignore, truth)) == 1


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

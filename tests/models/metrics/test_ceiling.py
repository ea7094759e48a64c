import numpy as np
import pytest
from box_rows import make
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.metrics.ceiling import (
    AS_REPORTED,
    TRUE_IDS,
    broken_ids,
    score_ceiling,
    with_true_ids,
)
from jde_ray.models.metrics.rows import BoxRows, check_unique
from jde_ray.models.metrics.tracking import score_sequence


def in_lanes(seed, frames=24, people=2, found=0.7):
    """People in lanes, found at times under ids that change, and boxes of nobody."""
    random = np.random.default_rng(seed)
    truth = make(*[(f, p + 1, 50 * p) for f in range(frames) for p in range(people)])
    rows = []
    for f in range(frames):
        ids = random.permutation(people + 2)
        rows += [
            (f, ids[p] if random.random() < 0.3 else 10 + p, 50 * p + random.normal(0, 1))
            for p in range(people)
            if random.random() < found
        ]
        rows.append((f, ids[people], 1000 + 50 * ids[people]))
    return truth, make(*rows)


def test_boxes_take_the_ids_of_their_people_and_others_keep_their_own():
    truth = make(*[(f, 7, 0) for f in range(4)])
    tracks = make((0, 1, 0), (0, 7, 500), (1, 2, 0), (1, 7, 500), (2, 7, 0), (3, 7, 500))
    given = with_true_ids(truth, tracks)
    assert given.tlbr is tracks.tlbr
    first, nobody = given.track_id[0], given.track_id[1]
    assert first != nobody  # though both were 7 somewhere
    assert given.track_id.tolist() == [first, nobody, first, nobody, first, nobody]


def test_ids_break_after_more_than_the_gap_and_not_before():
    truth = make(*[(f, 1, 0) for f in range(0, 30)])
    tracks = make((0, 1, 0), (1, 1, 0), (11, 1, 0), (22, 1, 0))

    def num_ids(gap, **how):
        return len(set(with_true_ids(truth, tracks, most_gap=gap, **how).track_id.tolist()))

    assert [num_ids(gap) for gap in (None, 60, 11, 10, 9, 1)] == [1, 1, 1, 2, 3, 3]
    assert num_ids(5, stride=2) == 2  # frames of which every second one was processed


def test_the_table_goes_from_reported_to_true_and_broken_ids():
    truth = make(*[(f, 1, 0) for f in range(20)])
    tracks = make(*[(f, 1, 0) for f in range(8)], *[(f, 2, 0) for f in range(10, 20)])
    scores = score_ceiling(truth, tracks, gaps=(10, 1))
    assert list(scores) == [AS_REPORTED, TRUE_IDS, "new after > 10 frames", "new after > 1 frame"]
    assert scores[AS_REPORTED].figures() == score_sequence(truth, tracks).figures()
    idf1 = {name: one.identity.idf1 for name, one in scores.items()}
    assert idf1[TRUE_IDS] == idf1[broken_ids(10)] == pytest.approx(36 / 38)
    assert idf1[AS_REPORTED] == idf1[broken_ids(1)] == pytest.approx(20 / 38)
    assert scores[TRUE_IDS].clear.num_switches == 0


def test_tracks_on_distractors_are_left_out():
    truth, ignore = make((0, 1, 0), (1, 1, 0)), make((0, 9, 500), (1, 9, 500))
    tracks = make((0, 1, 0), (1, 2, 0), (0, 5, 500), (1, 6, 500))
    scores = score_ceiling(truth, tracks, ignore)
    assert scores[TRUE_IDS].identity.idf1 == 1
    assert scores[AS_REPORTED].figures() == score_sequence(truth, tracks, ignore).figures()


@settings(max_examples=4)
@given(seed=st.integers(0, 10_000))
def test_true_ids_are_never_worse_and_longer_gaps_cost_less(seed):
    truth, tracks = in_lanes(seed)
    scores = score_ceiling(truth, tracks)
    for one in scores.values():  # the same boxes throughout
        assert one.clear.num_matches == scores[AS_REPORTED].clear.num_matches
        assert one.hota.detection_accuracy == pytest.approx(
            scores[AS_REPORTED].hota.detection_accuracy
        )
    idf1 = [scores[name].identity.idf1 for name in (broken_ids(1), broken_ids(10), broken_ids(60))]
    assert idf1 == sorted(idf1)
    best = scores[TRUE_IDS]
    assert best.identity.idf1 >= max(one.identity.idf1 for one in scores.values())
    assert best.identity.true_positives == best.clear.num_matches
    assert best.clear.num_switches == 0
    check_unique("tracks", with_true_ids(truth, tracks, most_gap=1))


def test_empty_sides():
    truth, tracks = in_lanes(1)
    for one in score_ceiling(truth, BoxRows.empty()).values():
        assert one.identity.idf1 == 0
    assert len(with_true_ids(BoxRows.empty(), tracks)) == len(tracks)

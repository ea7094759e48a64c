import math

import motmetrics
import numpy as np
import pytest
from box_rows import make
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.clear import ClearCounts, clear_counts
from jde_ray.models.metrics.identity import identity_counts
from jde_ray.models.metrics.rows import BoxRows, by_frame


def test_a_switch_a_miss_and_a_false_box_are_counted():
    truth = make(*[(f, 1, 0) for f in range(6)])
    tracks = make((0, 1, 0), (1, 1, 0), (2, 2, 0), (3, 2, 0), (4, 2, 0), (4, 9, 500))
    clear = clear_counts(truth, tracks)
    assert (clear.num_switches, clear.num_misses, clear.num_false_positives) == (1, 1, 1)
    assert clear.mota == pytest.approx(1 - 3 / 6)
    assert (clear.recall, clear.precision, clear.motp) == (5 / 6, 5 / 6, 1)


def test_a_gap_is_a_fragmentation_and_another_track_after_it_a_switch_too():
    truth = make(*[(f, 1, 0) for f in range(10)])
    tracks = make((0, 1, 0), (1, 1, 0), (3, 1, 0), (4, 9, 500), (6, 2, 0), (8, 2, 300), (9, 2, 0))
    clear = clear_counts(truth, tracks)
    # frames without any track (2, 5, 7) are not seen as gaps; those with one elsewhere are
    assert clear.num_fragmentations == 2
    assert clear.num_switches == 1


@pytest.mark.parametrize(
    ("found", "expected"), [(9, (1, 0, 0)), (8, (0, 1, 0)), (2, (0, 1, 0)), (1, (0, 0, 1))]
)
def test_mostly_tracked_is_above_80_and_mostly_lost_below_20_percent(found, expected):
    truth = make(*[(f, 1, 0) for f in range(10)])
    clear = clear_counts(truth, make(*[(f, 1, 0) for f in range(found)]))
    assert (clear.mostly_tracked, clear.partly_tracked, clear.mostly_lost) == expected


def test_going_on_with_a_track_beats_a_better_overlap():
    truth = make((0, 1, 0), (1, 1, 0))
    tracks = make((0, 7, 0), (1, 7, 2), (1, 8, 0))
    clear = clear_counts(truth, tracks)
    assert (clear.num_switches, clear.num_false_positives) == (0, 1)
    assert clear.overlap == pytest.approx(1 + 8 / 12)


def test_empty_sides():
    truth = make((0, 1, 0), (1, 1, 0))
    nothing = clear_counts(truth, BoxRows.empty())
    assert (nothing.recall, nothing.precision, nothing.motp, nothing.mota) == (0, 0, 0, 0)
    assert nothing.mostly_lost == nothing.num_ids == 1
    nobody = clear_counts(BoxRows.empty(), truth)
    assert nobody.num_false_positives == 2
    assert all(math.isnan(v) for v in (nobody.mota, nobody.recall, nobody.precision, nobody.motp))
    assert clear_counts(BoxRows.empty(), BoxRows.empty()) == ClearCounts()


def test_counts_add_up():
    truth = make(*[(f, 1, 0) for f in range(4)])
    both = clear_counts(truth, truth) + clear_counts(truth, BoxRows.empty())
    assert both.mota == both.recall == 0.5
    assert (both.mostly_tracked, both.mostly_lost, both.num_boxes) == (1, 1, 8)


def accumulate(truth, tracks):
    accumulator = motmetrics.MOTAccumulator(auto_id=False)
    for frame, (i, j) in by_frame(truth, tracks):
        distance = 1 - iou_matrix(truth.tlbr[i], tracks.tlbr[j])
        distance[distance > 0.5 + 1e-12] = np.nan
        accumulator.update(truth.track_id[i], tracks.track_id[j], distance, frameid=frame)
    names = ["mota", "idf1", "idp", "idr", "num_switches", "num_false_positives", "num_misses"]
    table = motmetrics.metrics.create().compute(accumulator, metrics=names, name="")
    return table.iloc[0].to_dict()


@st.composite
def sequences(draw, crowded):
    """People who stand, and tracks that follow them, swap, drift off and come back."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    frames, people = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    spacing = 4.0 if crowded else 100.0
    truth, tracks = [], []
    names = random.permutation(people)
    for frame in range(frames):
        if random.random() < 0.3:
            names = random.permutation(people)
        for person in range(people):
            if random.random() < 0.9:
                truth.append((frame, person, spacing * person))
            if random.random() < 0.8:
                at = spacing * person + random.choice([0.0, 1.0, 2.5, 6.0])
                tracks.append((frame, 50 + names[person], at))
    return make(*truth), make(*tracks)


@settings(max_examples=40, deadline=None)
@given(pair=sequences(crowded=False))
def test_motmetrics_agrees_where_a_person_has_one_candidate(pair):
    truth, tracks = pair
    if not len(truth):
        return
    clear, theirs = clear_counts(truth, tracks), accumulate(truth, tracks)
    assert clear.num_switches == theirs["num_switches"]
    assert clear.num_false_positives == theirs["num_false_positives"]
    assert clear.num_misses == theirs["num_misses"]
    assert clear.mota == pytest.approx(theirs["mota"])


@settings(max_examples=40, deadline=None)
@given(pair=sequences(crowded=True))
def test_identity_scores_are_those_of_motmetrics_in_any_crowd(pair):
    truth, tracks = pair
    if not len(truth) or not len(tracks):
        return
    identity, theirs = identity_counts(truth, tracks), accumulate(truth, tracks)
    for name in ("idf1", "idp", "idr"):
        assert getattr(identity, name) == pytest.approx(theirs[name])


@settings(max_examples=40, deadline=None)
@given(pair=sequences(crowded=True))
def test_every_box_is_counted_once_in_any_crowd(pair):
    truth, tracks = pair
    clear, identity = clear_counts(truth, tracks), identity_counts(truth, tracks)
    assert clear.num_matches + clear.num_false_positives == len(tracks)
    assert clear.num_boxes == len(truth)
    assert clear.num_ids == len(set(truth.track_id.tolist()))
    assert identity.true_positives + identity.false_positives == len(tracks)
    assert identity.true_positives + identity.false_negatives == len(truth)

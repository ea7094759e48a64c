import numpy as np
import pytest

from jde_ray.models.metrics.hota import ALPHAS, hota_counts
from jde_ray.models.metrics.rows import BoxRows


def line(track_id, frames, x=0.0):
    tlbr = np.tile(np.array([x, 0, x + 10, 20.0]), (len(frames), 1))
    return BoxRows(np.array(frames), np.full(len(frames), track_id), tlbr)


def test_perfect_tracks_score_one():
    truth = BoxRows.concatenate([line(1, range(5)), line(2, range(3), 50)])
    counts = hota_counts(truth, truth)
    assert len(ALPHAS) == 19
    assert counts.hota == counts.detection_accuracy == counts.association_accuracy == 1
    assert counts.localisation_accuracy == pytest.approx(1)


def test_a_track_cut_in_two_halves_keeps_detection_and_loses_association():
    truth = line(1, range(8))
    tracks = BoxRows.concatenate([line(1, range(4)), line(2, range(4, 8))])
    counts = hota_counts(truth, tracks)
    assert counts.detection_accuracy == 1
    assert counts.association_accuracy == pytest.approx(0.5)
    assert counts.hota == pytest.approx(0.5**0.5)


def test_without_tracks_or_truth_the_score_is_zero():
    truth = line(1, range(3))
    for counts in (hota_counts(truth, BoxRows.empty()), hota_counts(BoxRows.empty(), truth)):
        assert counts.hota == 0
        assert counts.localisation_accuracy == pytest.approx(1)
    assert hota_counts(BoxRows.empty(), BoxRows.empty()).hota == 0


def test_counts_of_sequences_add_up():
    truth = line(1, range(4))
    both = hota_counts(truth, truth) + hota_counts(truth, BoxRows.empty())
    assert both.detection_accuracy == pytest.approx(0.5)
    assert both.association_accuracy == 1

import math

import numpy as np
import places
import pytest

from jde_ray.models.metrics.detection import rank, score_detections

TRUTH = np.array([[0, 0, 10, 20], [50, 0, 60, 20.0]])
NONE = np.zeros((0, 4))


def test_all_found_and_nothing_else_is_one():
    scores = score_detections([TRUTH, NONE], [TRUTH, NONE], [np.array([0.9, 0.2]), np.zeros(0)])
    assert scores.average_precision == scores.recall == scores.precision == 1
    assert (scores.num_truth, scores.num_detections) == (2, 2)


def test_all_point_interpolation_over_images():
    boxes = [np.array([[0, 0, 10, 20], [200, 0, 210, 20.0]]), np.array([[50, 0, 60, 20.0]])]
    confidence = [np.array([0.9, 0.8]), np.array([0.7])]
    scores = score_detections([TRUTH[:1], TRUTH[1:]], boxes, confidence)
    assert scores.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert scores.precision == pytest.approx(2 / 3)


def test_the_second_box_on_a_person_is_wrong():
    boxes = np.array([[1, 0, 11, 20], [0, 0, 10, 20.0]])
    scores = score_detections([TRUTH[:1]], [boxes], [np.array([0.9, 0.8])])
    assert scores.average_precision == 1
    assert scores.precision == 0.5


def test_without_truth_or_detections():
    nothing = score_detections([TRUTH], [NONE], [np.zeros(0)])
    assert nothing.average_precision == 0
    assert math.isnan(nothing.precision)
    assert math.isnan(score_detections([NONE], [NONE], [np.zeros(0)]).average_precision)
    assert math.isnan(score_detections([], [], []).average_precision)


def test_images_must_pair_up():
    with pytest.raises(ValueError, match=r"got \(1, 0, 0\) images"):
        score_detections([TRUTH], [], [])


def test_the_golden_case_of_the_original():
    golden = np.load(places.GOLDEN / "average_precision.npz")
    curve = rank(golden["tp"].astype(bool), golden["conf"], 50)
    got = (curve.average_precision, curve.recall[-1], curve.precision[-1])
    assert got == pytest.approx(tuple(golden["ap"]), abs=1e-12)
    assert (np.diff(curve.scores) <= 0).all()


def test_the_published_mean_counts_images_with_both_only():
    wrong = np.array([[200, 0, 210, 20.0]])
    scores = score_detections(
        [TRUTH, TRUTH, TRUTH, NONE],
        [TRUTH[:1], wrong, NONE, wrong],
        [np.array([0.9]), np.array([0.8]), np.zeros(0), np.array([0.7])],
    )
    assert scores.num_published_images == 2
    assert scores.published_mean == pytest.approx((0.5 + 0) / 2)
    assert scores.average_precision == pytest.approx(1 / 6)


def test_the_published_match_is_strict_and_does_not_look_for_another_box():
    half = np.array([[0, 0, 10, 10.0]])  # IoU of exactly .5 with the first person
    at_half = score_detections([TRUTH[:1]], [half], [np.array([0.9])])
    assert (at_half.average_precision, at_half.published_mean) == (1, 0)
    near = np.array([[0, 0, 10, 20], [3, 0, 13, 20.0]])
    boxes = np.array([[0, 0, 10, 20], [1.4, 0, 11.4, 20.0]])  # both overlap the first one most
    scores = score_detections([near], [boxes], [np.array([0.9, 0.8])])
    assert (scores.recall, scores.published_mean) == (1, 0.5)


def test_without_images_of_both_kinds_there_is_no_published_mean():
    assert math.isnan(score_detections([TRUTH], [NONE], [np.zeros(0)]).published_mean)

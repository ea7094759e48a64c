import math

import numpy as np
import pytest

from models.metrics.detection import score_detections

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

import math

import numpy as np
import pytest

from jde_ray.models.metrics.detection import score_detections
from jde_ray.models.metrics.detection_classes import judge_detections

# Frames of 1152x640, twice the size in which heights are measured.
FRAME = (1152, 640)
TRUTHS = [
    np.array([
        [0, 0, 20, 58],  # 29 px high
        [100, 0, 120, 60],  # 30 px: the class above the edge
        [200, 0, 260, 200], [220, 0, 280, 200],  # 100 px, IoU .5 with each other
    ]),
    np.array([[0, 0, 30, 100.0]]),  # 50 px
]  # fmt: skip
BOXES = [
    np.array([
        [100, 0, 120, 60],  # the second person exactly
        [200, 0, 260, 160],  # the third, IoU .8
        [500, 0, 520, 70],  # nobody, 35 px
        [0, 300, 20, 350],  # nobody, 25 px
    ]),
    np.array([[0, 0, 30, 60.0]]),  # IoU .6
]  # fmt: skip
SCORES = [np.array([0.4, 0.9, 0.7, 0.3]), np.array([0.5])]
VISIBLE = [np.array([0.1, 0.25, 0.74, 0.5]), np.array([1.0])]


@pytest.fixture
def judged():
    return judge_detections(TRUTHS, BOXES, SCORES, visible=VISIBLE, frame_size=FRAME)


def test_heights_are_those_in_a_letterboxed_frame(judged):
    figures = judged.by_height()
    assert {name: own["boxes"] for name, own in figures.items()} == {
        "< 30": 1, "30 to 45": 1, "45 to 70": 1, ">= 70": 2, "all": 5,
    }  # fmt: skip
    assert [own["Rcll"] for own in figures.values()] == [0, 100, 100, 50, 60]
    assert [own["Rcll@.5"] for own in figures.values()] == [0, 0, 100, 50, 40]
    assert figures["45 to 70"]["mean IoU"] == pytest.approx(60)
    assert (figures[">= 70"]["mean IoU"], figures[">= 70"]["IoU > .7"]) == pytest.approx((80, 100))


def test_a_wrong_detection_counts_in_the_class_of_its_own_height(judged):
    figures = judged.by_height()
    assert figures["< 30"]["AP"] == 0
    assert figures["30 to 45"]["AP"] == pytest.approx(50)  # one of 35 px ranks above the right one
    assert (figures["45 to 70"]["AP"], figures[">= 70"]["AP"]) == pytest.approx((100, 50))


def test_the_last_line_is_the_average_precision_of_the_usual_table(judged):
    usual = score_detections(TRUTHS, BOXES, SCORES)
    for lines in (judged.by_height(), judged.by_visible_share()):
        assert lines["all"]["AP"] == pytest.approx(100 * usual.average_precision)
        assert lines["all"]["Rcll"] == pytest.approx(100 * usual.recall)


def test_every_wrong_detection_counts_in_every_class_of_visible_share(judged):
    figures = judged.by_visible_share()
    assert [own["boxes"] for own in figures.values()] == [1, 1, 2, 1, 5]
    assert [own["Rcll"] for own in figures.values()] == [0, 100, 50, 100, 60]
    assert [own["AP"] for own in figures.values()][:4] == pytest.approx([0, 50, 50, 50])


def test_crowds_go_by_the_overlap_of_people(judged):
    figures = judged.by_overlap()
    assert {name: own["boxes"] for name, own in figures.items()} == {
        "0": 3, "to .3": 0, ".3 to .5": 2, "> .5": 0, "> .3": 2, "all": 5,
    }  # fmt: skip
    assert (figures["> .3"]["Rcll"], figures["> .3"]["mean IoU"]) == pytest.approx((50, 80))
    assert math.isnan(figures["> .5"]["Rcll"])
    assert "AP" not in figures["all"]


def test_sequences_are_pooled_as_one(judged):
    """The sum ranks all detections together: it is not the mean of both."""
    wrong, score = BOXES[0][2:3], np.array([0.95])
    nobody = judge_detections([TRUTHS[1]], [wrong], [score], frame_size=(576, 320))
    both = judged + nobody
    assert both.visible is None
    with pytest.raises(ValueError, match="visible shares: got none"):
        both.by_visible_share()
    figures = both.by_height()
    assert figures["all"]["boxes"] == 6
    assert figures[">= 70"]["AP"] == pytest.approx(100 * (1 / 3) * (1 / 2))  # 70 px above .9
    whole = score_detections([*TRUTHS, TRUTHS[1]], [*BOXES, wrong], [*SCORES, score])
    assert figures["all"]["AP"] == pytest.approx(100 * whole.average_precision)


def test_without_a_known_size_there_are_no_heights():
    judged = judge_detections(TRUTHS, BOXES, SCORES)
    with pytest.raises(ValueError, match="heights: got none"):
        judged.by_height()
    assert judged.by_overlap()["all"]["boxes"] == 5


def test_nobody_and_nothing_have_no_figures():
    judged = judge_detections([], [], [], frame_size=FRAME)
    assert judged.by_height()["all"]["boxes"] == 0
    assert math.isnan(judged.by_height()["all"]["AP"])

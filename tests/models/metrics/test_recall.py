import math

import numpy as np
import pytest

from jde_ray.models.metrics.clear import clear_counts
from jde_ray.models.metrics.recall import (
    HEIGHT_CLASSES,
    OVERLAP_CLASSES,
    count_recall,
    overlap_figures,
)
from jde_ray.models.metrics.rows import BoxRows


def make(*rows):
    """Rows of (frame, id, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 6)
    return BoxRows(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:])


TRUTH = make(
    (0, 1, 0, 0, 10, 32),  # alone, 32 high
    (0, 2, 100, 0, 110, 40), (0, 3, 105, 0, 115, 40),  # IoU 1/3
    (1, 2, 100, 0, 110, 40), (1, 3, 109, 0, 119, 40),  # IoU 1/19
    (2, 4, 0, 0, 100, 400), (2, 5, 10, 0, 110, 400),  # IoU 9/11
)  # fmt: skip
TRACKS = make(
    (0, 1, 0, 0, 10, 32),
    (0, 2, 100, 0, 110, 30),  # IoU .75
    (1, 2, 100, 0, 110, 24),  # IoU .6
    (2, 4, 0, 0, 100, 400),
    (2, 9, 500, 0, 600, 400),  # nobody
)


def test_people_are_found_by_how_covered_they_are():
    figures = count_recall(TRUTH, TRACKS).by_overlap.figures(OVERLAP_CLASSES)
    assert {name: own["boxes"] for name, own in figures.items()} == {
        "0": 1, "to .3": 2, ".3 to .5": 2, "> .5": 2, "all": 7,
    }  # fmt: skip
    assert figures["0"]["Rcll"] == figures["0"]["IoU > .7"] == 100
    assert figures["to .3"]["Rcll"] == figures[".3 to .5"]["Rcll"] == 50
    assert (figures["to .3"]["mean IoU"], figures["to .3"]["IoU > .7"]) == pytest.approx((60, 0))
    assert figures[".3 to .5"]["mean IoU"] == pytest.approx(75)


def test_people_are_found_by_how_tall_they_are():
    figures = count_recall(TRUTH, TRACKS).by_height.figures(HEIGHT_CLASSES)
    assert [own["boxes"] for own in figures.values()] == [1, 4, 0, 0, 2, 7]
    assert math.isnan(figures["to 128"]["Rcll"])
    assert figures["> 256"]["Rcll"] == 50


def test_the_sum_is_what_clear_counts():
    one = count_recall(TRUTH, TRACKS)
    clear = clear_counts(TRUTH, TRACKS)
    both = one + one
    for classes, names in ((both.by_overlap, OVERLAP_CLASSES), (both.by_height, HEIGHT_CLASSES)):
        whole = classes.figures(names)["all"]
        assert whole["boxes"] == 2 * clear.num_boxes
        assert whole["Rcll"] == pytest.approx(100 * clear.recall)
        assert whole["mean IoU"] == pytest.approx(100 * clear.motp)


def test_nobody_found_is_a_recall_of_0_without_overlaps():
    whole = count_recall(TRUTH, BoxRows.empty()).by_height.figures(HEIGHT_CLASSES)["all"]
    assert whole["Rcll"] == 0
    assert math.isnan(whole["mean IoU"])


def test_everyone_in_a_crowd_has_a_line():
    figures = overlap_figures(count_recall(TRUTH, TRACKS).by_overlap)
    assert list(figures) == [*OVERLAP_CLASSES, "> .3", "all"]
    assert figures["> .3"]["boxes"] == figures[".3 to .5"]["boxes"] + figures["> .5"]["boxes"] == 4
    assert figures["> .3"]["Rcll"] == 50
    assert figures["> .3"]["mean IoU"] == pytest.approx((75 + 100) / 2)
    assert figures["all"]["boxes"] == 7

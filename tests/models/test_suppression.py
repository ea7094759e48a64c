"""OpenCV's suppression keeps what the published rule keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.jde.decode import nms
from jde_ray.models.suppression import suppress


def greedy(tlbr, threshold):
    """The rule in words: keep a box unless one that is kept overlaps it by more."""
    kept = []
    for row in range(len(tlbr)):
        if not kept or iou_matrix(tlbr[row : row + 1], tlbr[kept]).max() <= threshold:
            kept.append(row)
    return kept


@settings(deadline=None)  # on a busy machine a call may take long
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.45, 0.5, 1.0]))
def test_it_keeps_what_the_rule_and_the_gpu_form_keep(seed, threshold):
    """Whole numbers, so that boxes coincide, touch and have no area now and then."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (12, 2))
    tlbr = np.concatenate([corner, corner + rng.integers(0, 30, (12, 2))], 1).astype(np.float32)
    kept = suppress(tlbr, threshold).tolist()
    assert kept == greedy(tlbr, threshold)
    assert kept == np.flatnonzero(nms(torch.from_numpy(tlbr), threshold).numpy()).tolist()


@pytest.mark.parametrize("number", [1, 300, 2000])
def test_crowds_of_fractional_boxes(number):
    rng = np.random.default_rng(number)
    centre = rng.uniform(0, 300, (number, 2))
    half = rng.uniform(5, 40, (number, 2))
    tlbr = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    assert suppress(tlbr, 0.4).tolist() == greedy(tlbr.astype(np.float64), 0.4)


def test_boxes_without_area_are_kept_wherever_they_are():
    tlbr = np.array([[5, 5, 5, 9], [90, 90, 90, 90], [5, 5, 9, 9], [5, 5, 9, 9]], np.float32)
    assert suppress(tlbr, 0.4).tolist() == [0, 1, 2]


def test_nothing_of_nothing():
    assert suppress(np.zeros((0, 4), np.float32), 0.4).tolist() == []

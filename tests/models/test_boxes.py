"""Boxes keep their place through every change of form."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jde_ray.models import boxes

coordinate = st.floats(-1000, 3000, allow_nan=False, width=32)
side = st.floats(0.5, 2000, allow_nan=False, width=32)
tlwh_boxes = (
    st.integers(0, 6)
    .flatmap(
        lambda n: st.tuples(
            arrays(float, (n, 2), elements=coordinate), arrays(float, (n, 2), elements=side)
        )
    )
    .map(np.hstack)
)


def test_examples_in_docstrings_hold():
    results = doctest.testmod(boxes)
    assert results.attempted > 0
    assert results.failed == 0


@given(tlwh_boxes)
def test_forms_round_trip(tlwh):
    tlbr = boxes.tlwh_to_tlbr(tlwh)
    np.testing.assert_allclose(boxes.tlbr_to_tlwh(tlbr), tlwh, atol=1e-9)
    np.testing.assert_allclose(boxes.xyah_to_tlbr(boxes.tlbr_to_xyah(tlbr)), tlbr, atol=1e-8)
    centre = np.hstack([tlwh[:, :2] + tlwh[:, 2:] / 2, tlwh[:, 2:]])
    np.testing.assert_allclose(boxes.cxcywh_to_tlbr(centre), tlbr, atol=1e-8)


@given(tlwh_boxes, tlwh_boxes)
def test_overlap_is_a_symmetric_share(a, b):
    a, b = boxes.tlwh_to_tlbr(a), boxes.tlwh_to_tlbr(b)
    iou = boxes.iou_matrix(a, b)
    assert iou.shape == (len(a), len(b))
    assert ((iou >= 0) & (iou <= 1 + 1e-9)).all()
    np.testing.assert_allclose(iou, boxes.iou_matrix(b, a).T, atol=1e-12)
    np.testing.assert_allclose(np.diag(boxes.iou_matrix(a, a)), 1)


def test_overlap_of_known_boxes():
    a = np.array([[0.0, 0, 10, 10]])
    b = np.array([[5.0, 0, 15, 10], [10, 0, 20, 10], [20, 20, 30, 30], [3, 3, 3, 3]])
    np.testing.assert_allclose(boxes.iou_matrix(a, b), [[1 / 3, 0, 0, 0]])
    inclusive = boxes.iou_matrix(a, b, pixel=1.0)
    np.testing.assert_allclose(inclusive[0, :2], [66 / 176, 11 / 231])


def test_boxes_without_area_give_no_warning():
    point = np.zeros((1, 4))
    assert boxes.iou_matrix(point, point).tolist() == [[0.0]]

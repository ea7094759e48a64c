from dataclasses import replace

import pytest
import torch

from jde_ray.models.rcnn.config import FRCNN_SMALL
from jde_ray.models.rcnn.proposals import AnchorOutputs, ProposalHead, propose

CONFIG = replace(FRCNN_SMALL, level_proposals=(4, 3), proposals=(6, 5))
# two strides: four boxes of the first, of which two overlap by more than .7, and two of the second
ANCHORS = torch.tensor(
    [
        [0.0, 0, 10, 10],
        [0, 0, 10, 9],
        [20, 20, 30, 40],
        [-5, 30, 5, 60],
        [0, 0, 10, 10],
        [60, 40, 90, 80],
    ]
)
LOGITS = [0.5, 3.0, 2.0, -1.0, 1.0, 4.0]


def outputs(logits=LOGITS, offsets=None):
    offsets = torch.zeros(1, 6, 4) if offsets is None else offsets
    return AnchorOutputs(torch.tensor([logits]), offsets, ANCHORS, (4, 2), (80, 60))


def test_zero_offsets_propose_the_best_anchors_within_the_picture_suppressed_by_stride():
    found = propose(CONFIG, outputs())
    # of the first stride the three best reach suppression, and the first of them falls to another
    assert found.tlbr[0, :4].tolist() == [
        [60, 40, 80, 60],
        [0, 0, 10, 9],
        [20, 20, 30, 40],
        [0, 0, 10, 10],
    ]
    assert found.is_real.tolist() == [[True] * 4 + [False]]
    assert (found.tlbr[0, 4] == 0).all()


def test_training_has_numbers_of_its_own():
    found = propose(CONFIG, outputs(), training=True)
    assert found.is_real.sum() == 5
    assert found.tlbr[0, 4].tolist() == [0, 30, 5, 60]
    least = replace(CONFIG, proposals=(2, 5))
    assert propose(least, outputs(), training=True).tlbr.shape == (1, 2, 4)


def test_boxes_pushed_out_of_the_picture_are_no_proposals():
    offsets = torch.zeros(1, 6, 4)
    offsets[0, 5] = torch.tensor([9.0, 0, 0, 0])
    found = propose(CONFIG, outputs(offsets=offsets))
    assert found.tlbr[0, 0].tolist() == [0, 0, 10, 9]


@pytest.mark.parametrize("logits", [1, 2])
def test_the_head_s_outputs_are_those_of_the_anchors_in_order(logits):
    torch.manual_seed(0)
    head = ProposalHead(replace(FRCNN_SMALL, rpn_logits=logits), 8)
    maps = [torch.randn(2, 8, 3, 4), torch.randn(2, 8, 2, 2), *[torch.randn(2, 8, 1, 1)] * 2]
    found = head(maps, (96, 64))
    assert found.counts == (72, 24, 6, 6)
    assert found.offsets.shape == (2, 108, 4)
    hidden = head.hidden(maps[0]).relu()
    raw = head.score(hidden)[1, :, 2, 1].view(6, logits)  # picture 1, row 2, column 1
    by_hand = raw[:, 0] if logits == 1 else (raw.softmax(1)[:, 1]).logit()
    torch.testing.assert_close(found.logits[1, (2 * 4 + 1) * 6 :][:6], by_hand)
    boxes = head.box(hidden)[1, :, 2, 1].view(6, 4)
    torch.testing.assert_close(found.offsets[1, (2 * 4 + 1) * 6 :][:6], boxes)

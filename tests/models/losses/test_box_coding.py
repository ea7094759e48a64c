"""Offsets from anchors to boxes and back."""

import numpy as np
import torch

from jde_ray.models.boxes import cxcywh_to_tlbr
from jde_ray.models.losses.box_coding import decode, encode


def test_encoding_is_that_of_faster_rcnn():
    box = torch.tensor([[10.0, 20.0, 50.0, 100.0]])
    got = encode(box, torch.tensor([[20.0, 60.0]]), torch.tensor([[32.0, 64.0]]))
    expected = [-2 / 20, -4 / 60, np.log(2), np.log(80 / 60)]
    torch.testing.assert_close(got, torch.tensor([expected], dtype=torch.float32))


def test_decoding_is_the_inverse():
    tlbr = torch.tensor([[10.0, 20.0, 50.0, 100.0], [-5.0, 0.0, 3.0, 40.0]])
    anchors = torch.tensor([[20.0, 60.0], [8.0, 24.0]])
    centres = torch.tensor([[32.0, 64.0], [0.0, 16.0]])
    boxes = decode(encode(tlbr, anchors, centres), anchors, centres)
    np.testing.assert_allclose(cxcywh_to_tlbr(boxes.numpy()), tlbr.numpy(), atol=1e-4)

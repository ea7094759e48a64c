import math

import pytest
import torch

from jde_ray.models.jde.losses.task_aligned import pair_iou
from jde_ray.models.rcnn.anchors import anchors_of, cell_anchors, decode, encode
from jde_ray.models.rcnn.config import FRCNN_R50, FRCNN_SMALL, FRCNN_VGG16, FRCNN_VGG_SMALL
from jde_ray.models.rcnn.sampling import ANCHOR_NEGATIVE

CPU = torch.device("cpu")
SIZE = (400, 300)


def test_anchors_of_two_cells_by_hand():
    found = anchors_of(FRCNN_R50, [(1, 2), (0, 0), (0, 0), (0, 0), (0, 0)], CPU)
    # 32 / sqrt(.5) = 45.25 wide and 22.63 high; halves are rounded to whole pixels
    cell = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    right = [[a + 4, b, c + 4, d] for a, b, c, d in cell]
    assert found.tolist() == cell + right


def test_anchors_come_by_stride_row_column_aspect_and_size():
    shapes = [(2, 3), (1, 2), (1, 1), (1, 1)]
    found = anchors_of(FRCNN_SMALL, shapes, CPU)
    assert found.shape == ((6 + 2 + 1 + 1) * 6, 4)
    centres = (found[:, :2] + found[:, 2:]) / 2
    assert centres[::6][:8].tolist() == [
        [0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0],
    ]  # fmt: skip
    aspect_3 = cell_anchors((16.0, 24.0), (1.0, 3.0))[2:]
    assert aspect_3.tolist() == [[-5, -14, 5, 14], [-7, -21, 7, 21]]


def test_vgg_has_nine_anchors_a_cell():
    sides = cell_anchors(FRCNN_VGG16.anchor_sizes[0], FRCNN_VGG16.aspects)
    area = (sides[:, 2:] - sides[:, :2]).prod(1).sqrt()
    assert area.round(decimals=-1).tolist() == [130, 260, 510] * 3


@pytest.mark.parametrize(
    ("config", "least"),
    [(FRCNN_R50, 40), (FRCNN_SMALL, 21), (FRCNN_VGG16, 150), (FRCNN_VGG_SMALL, 32)],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_person_from_a_least_height_on_overlaps_an_anchor_that_may_learn_it(config, least):
    torch.manual_seed(0)
    width, height = config.size
    heights = torch.logspace(math.log10(least), math.log10(height), 30)
    sides = torch.stack((heights / torch.empty(30).uniform_(2, 3), heights), 1)
    corner = torch.rand(30, 2) * (torch.tensor(config.size) - sides)
    shapes = [(math.ceil(height / s), math.ceil(width / s)) for s in config.strides]
    people = torch.cat((corner, corner + sides), 1)
    best = pair_iou(people, anchors_of(config, shapes, CPU)).amax(1)
    assert best.min() > ANCHOR_NEGATIVE


def test_boxes_are_coded_by_hand_and_decoded_back():
    anchor, box = torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[15.0, 20, 55, 40]])
    by_hand = [(35 - 20) / 20, (30 - 30) / 40, math.log(40 / 20), math.log(20 / 40)]
    assert encode(box, anchor)[0].tolist() == pytest.approx(by_hand)
    deviations = (0.1, 0.1, 0.2, 0.2)
    coded = encode(box, anchor, deviations)
    assert coded[0].tolist() == pytest.approx([10 * by_hand[0], 0, *(5 * x for x in by_hand[2:])])
    torch.testing.assert_close(decode(coded, anchor, SIZE, deviations), box)


def test_zero_offsets_give_the_box_back_and_the_border_cuts_it_off():
    boxes = torch.tensor([[10.0, 20, 30, 60], [-20, -10, 50, 40], [390, 280, 420, 330]])
    cut = torch.tensor([[10.0, 20, 30, 60], [0, 0, 50, 40], [390, 280, 400, 300]])
    torch.testing.assert_close(decode(torch.zeros(3, 4), boxes, SIZE), cut)


def test_a_wild_offset_makes_a_box_at_most_62_times_as_large():
    found = decode(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[0.0, 0, 2, 2]]), (9999, 9999))
    assert found[0, 2:].tolist() == pytest.approx([1 + 62.5, 1 + 62.5])

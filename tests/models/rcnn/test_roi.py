from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from jde_ray.models.rcnn.config import FRCNN_R50, FRCNN_SMALL, FRCNN_VGG16
from jde_ray.models.rcnn.roi import align, levels_of, max_pool, pool

ZERO = torch.zeros(1, dtype=torch.int64)


def test_a_constant_map_gives_the_constant_everywhere_the_border_included():
    boxes = torch.tensor([[0.0, 0, 9, 6], [2.2, 1.7, 3.1, 5.9], [8.9, 5.9, 9, 6]])
    image = torch.zeros(3, dtype=torch.int64)
    found = align([torch.full((1, 2, 6, 9), 3.5)], image, image, boxes)
    assert found.shape == (3, 2, 7, 7)
    torch.testing.assert_close(found, torch.full_like(found, 3.5))


@pytest.mark.parametrize("shift", [0.5, 0.0])
def test_a_linear_map_gives_the_value_at_the_centre_of_each_bin(shift):
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    linear = (2 * x - 3 * y + 1)[None, None]
    x1, y1, x2, y2 = 3.3, 4.1, 24.8, 15.2
    found = align([linear], ZERO, ZERO, torch.tensor([[x1, y1, x2, y2]]), shift)[0, 0]
    centres = (torch.arange(7) + 0.5) / 7
    at_x, at_y = x1 + (x2 - x1) * centres - shift, y1 + (y2 - y1) * centres - shift
    expected = 2 * at_x[None] - 3 * at_y[:, None] + 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_it_is_the_mean_of_grid_sample_s_points_in_every_picture_and_map():
    torch.manual_seed(0)
    maps = [torch.randn(2, 5, 12, 17), torch.randn(2, 5, 6, 9)]
    level, image = torch.tensor([0, 1, 1, 0, 0]), torch.tensor([1, 0, 1, 0, 1])
    corner = torch.rand(5, 2) * 4
    boxes = torch.cat((corner, corner + 0.5 + torch.rand(5, 2) * 6), 1)
    found = align(maps, level, image, boxes)
    steps = (torch.arange(14) + 0.5) / 14
    for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        one = maps[level[row]][image[row]][None]
        height, width = one.shape[2:]
        u, v = x1 + (x2 - x1) * steps - 0.5, y1 + (y2 - y1) * steps - 0.5
        y, x = torch.meshgrid((2 * v + 1) / height - 1, (2 * u + 1) / width - 1, indexing="ij")
        points = F.grid_sample(
            one, torch.stack((x, y), -1)[None], align_corners=False, padding_mode="border"
        )
        torch.testing.assert_close(found[row], F.avg_pool2d(points, 2)[0], atol=1e-5, rtol=1e-5)


def test_its_gradients_match_finite_differences():
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.7, 0.3, 4.4, 4.1]], dtype=torch.float64)
    assert gradcheck(lambda m: align([m], ZERO, ZERO, boxes), (maps,))


def test_without_boxes_there_is_nothing_and_the_map_gets_a_gradient_of_zero():
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    for found in (
        align([maps], ZERO[:0], ZERO[:0], torch.zeros(0, 4)),
        max_pool(maps, ZERO[:0], torch.zeros(0, 4)),
    ):
        assert found.shape == (0, 2, 7, 7)
    align([maps], ZERO[:0], ZERO[:0], torch.zeros(0, 4)).sum().backward()
    assert (maps.grad == 0).all()


def test_a_box_is_read_from_the_map_that_fits_its_size():
    sides = torch.tensor([30.0, 111, 113, 223, 225, 447, 449, 2000])
    boxes = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    assert levels_of(FRCNN_R50, boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert levels_of(FRCNN_SMALL, boxes).tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    maps = [torch.full((1, 1, 4, 4), float(k)) for k in range(5)]
    found = pool(FRCNN_R50, maps, torch.zeros(8, dtype=torch.int64), boxes)
    assert found[:, 0, 3, 3].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_older_networks_take_a_cell_s_value_at_its_corner():
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    boxes = torch.tensor([[32.0, 32, 96, 96]])
    old = replace(FRCNN_R50, half_pixel=False)
    new_way, old_way = (pool(c, [ramp] * 5, ZERO, boxes)[0, 0, 3] for c in (FRCNN_R50, old))
    torch.testing.assert_close(old_way - new_way, torch.full((7,), 0.5))


def by_cells(one, box):
    """Maxima with a loop over bins and cells, as the definition reads."""
    left, top, right, bottom = (int(value + 0.5) for value in box)
    right, bottom = min(right, one.shape[2] - 1), min(bottom, one.shape[1] - 1)
    width, height = right - left + 1, bottom - top + 1
    out = torch.empty(len(one), 7, 7)
    for row in range(7):
        for column in range(7):
            ys = range(top + row * height // 7, top - (-(row + 1) * height // 7))
            xs = range(left + column * width // 7, left - (-(column + 1) * width // 7))
            cells = [one[:, y, x] for y in ys for x in xs]
            out[:, row, column] = torch.stack(cells).amax(0)
    return out


def test_max_pooling_takes_the_largest_cell_of_each_bin():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 14, 18)
    boxes = torch.tensor([[0.0, 0, 18, 14], [2.4, 3.6, 9.5, 12.2], [5.0, 5, 5.2, 6]])
    image = torch.tensor([0, 1, 1])
    found = max_pool(maps, image, boxes)
    for row, one in enumerate(image.tolist()):
        assert torch.equal(found[row], by_cells(maps[one], boxes[row].tolist()))
    assert torch.equal(pool(FRCNN_VGG16, [maps], image, 16 * boxes), found)

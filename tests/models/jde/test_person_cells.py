import torch

from jde_ray.models.jde.config import SMALL, published
from jde_ray.models.jde.decode import Candidates
from jde_ray.models.jde.person_cells import person_rows

PUBLISHED = published("darknet53", (576, 320))
GRIDS = ((10, 18), (20, 36), (40, 72))  # rows and columns at strides 32, 16, 8


def candidates(config, boxes=None):
    count = sum(h * w for h, w in GRIDS) * config.num_anchors
    if boxes is None:
        boxes = torch.zeros(1, count, 4)
    maps = tuple(torch.zeros(1, 4, h, w) for h, w in GRIDS)
    return Candidates(boxes, torch.zeros(1, count), maps)


def person(cx, cy, w, h):
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def test_published_networks_are_read_under_the_centre_at_the_anchor_most_alike():
    # the third anchor of stride 16 (43 x 128); no other scale has one that overlaps it by .6
    who, rows = person_rows(
        PUBLISHED, candidates(PUBLISHED), torch.tensor([person(100.0, 70.0, 43.0, 128.0)])
    )
    start = 4 * 10 * 18
    assert who.tolist() == [0]
    assert rows.tolist() == [start + 2 * 20 * 36 + 4 * 36 + 6]  # row 70 // 16, column 100 // 16


def test_a_person_between_two_scales_is_read_on_both_and_odd_shapes_on_none():
    between = person(100.0, 70.0, 71.0, 213.0)  # between (60, 180) of 16 and (85, 255) of 32
    flat = person(100.0, 70.0, 300.0, 10.0)
    who, rows = person_rows(PUBLISHED, candidates(PUBLISHED), torch.tensor([between, flat]))
    assert who.tolist() == [0, 0]
    assert rows[0] < 4 * 10 * 18 <= rows[1]


def test_of_two_people_in_one_cell_and_anchor_the_more_alike_one_stays():
    two = torch.tensor([person(100.0, 70.0, 40.0, 125.0), person(101.0, 71.0, 43.0, 128.0)])
    who, _ = person_rows(PUBLISHED, candidates(PUBLISHED), two)
    assert who.tolist() == [1]


def test_centres_outside_the_image_belong_to_its_last_cell():
    _, rows = person_rows(
        PUBLISHED, candidates(PUBLISHED), torch.tensor([person(900.0, -20.0, 43.0, 128.0)])
    )
    assert rows.tolist() == [4 * 10 * 18 + 2 * 20 * 36 + 35]


def test_other_networks_are_read_at_the_candidate_that_overlaps_most():
    empty = candidates(SMALL)
    boxes = empty.boxes.clone()
    boxes[0, 7] = torch.tensor([100.0, 70.0, 40.0, 120.0])
    boxes[0, 9] = torch.tensor([102.0, 70.0, 40.0, 120.0])
    people = torch.tensor([person(101.5, 70.0, 40.0, 120.0), person(400.0, 70.0, 40.0, 120.0)])
    who, rows = person_rows(SMALL, candidates(SMALL, boxes), people)
    assert (who.tolist(), rows.tolist()) == ([0], [9])


def test_nobody_has_no_rows():
    who, rows = person_rows(PUBLISHED, candidates(PUBLISHED), torch.zeros(0, 4))
    assert len(who) == len(rows) == 0

from dataclasses import replace

import pytest
import torch

from jde_ray.models.jde.losses.task_aligned import Labels, pair_iou
from jde_ray.models.rcnn.anchors import anchors_of
from jde_ray.models.rcnn.config import CASCADE_SMALL, FRCNN_SMALL, FRCNN_VGG_SMALL, Stage
from jde_ray.models.rcnn.proposals import AnchorOutputs
from jde_ray.models.rcnn.sampling import covered, next_proposals, sample_anchors, sample_boxes

SIZE = (128, 96)
PEOPLE = [[10.0, 12, 30, 60], [70, 20, 84, 55], [4, 70, 8, 90]]


def labels(boxes=PEOPLE, image=None, ignore=None, learns=(True,)):
    count = len(boxes)
    return Labels(
        torch.tensor(image or [0] * count, dtype=torch.int64),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.arange(count),
        torch.tensor(ignore or [False] * count, dtype=torch.bool),
        torch.zeros(count, 0),
        torch.tensor(learns),
    )


def outputs(config, batch=1):
    shapes = [(96 // stride or 1, 128 // stride) for stride in config.strides]
    shapes = [(max(1, height), max(1, width)) for height, width in shapes]
    anchors = anchors_of(config, shapes, torch.device("cpu"))
    counts = tuple(h * w * config.num_anchors for h, w in shapes)
    zeros = torch.zeros(batch, len(anchors))
    return AnchorOutputs(zeros, torch.zeros(batch, len(anchors), 4), anchors, counts, SIZE)


def kinds(anchors, boxes):
    """Row, -1 for background, None for what does not learn, of each anchor, with loops."""
    overlap = pair_iou(anchors, torch.tensor(boxes)).tolist()
    best_of_person = [max(column) for column in zip(*overlap, strict=True)]
    found = []
    for row in overlap:
        best = max(row)
        is_best = any(value == most >= 0.3 for value, most in zip(row, best_of_person, strict=True))
        if best >= 0.7 or is_best:
            found.append(row.index(best))
        else:
            found.append(-1 if best < 0.3 else None)
    return found


def test_anchors_learn_what_their_overlaps_say():
    config = replace(FRCNN_SMALL, sampled_anchors=10_000)
    found = outputs(config)
    sampled = sample_anchors(config, found, labels())
    expected = kinds(found.anchors, PEOPLE)
    assert dict(zip(sampled.anchor.tolist(), sampled.row.tolist(), strict=True)) == {
        anchor: row for anchor, row in enumerate(expected) if row is not None
    }
    assert sorted({row for row in expected if row is not None}) == [-1, 0, 1, 2]


def test_few_anchors_are_drawn_at_most_half_of_them_positives_by_torch_s_generator():
    config = replace(FRCNN_SMALL, sampled_anchors=4)
    found = outputs(config)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(sample_anchors(config, found, labels()))
    assert [len(draw.row) for draw in draws] == [4, 4, 4]
    assert sum(draws[0].row >= 0) == 2
    assert torch.equal(draws[0].anchor, draws[1].anchor)
    assert not torch.equal(draws[0].anchor, draws[2].anchor)


def test_anchors_in_ignored_regions_and_of_pictures_that_teach_no_detection_do_not_learn():
    config = replace(FRCNN_SMALL, sampled_anchors=10_000)
    found = outputs(config, 3)
    region = [0.0, 0, 64, 96]
    truth = labels([region, [20, 10, 40, 60]], [1, 1], [True, False], (True, True, False))
    sampled = sample_anchors(config, found, truth)
    of = [found.anchors[sampled.anchor[sampled.image == image]] for image in range(3)]
    assert len(of[0]) == len(found.anchors)
    assert len(of[2]) == 0
    learns = sampled.row[sampled.image == 1]
    inside = covered(of[1], torch.tensor([region]))
    assert not (inside & (learns < 0)).any()
    assert (learns[inside] == 1).any()  # people before a crowd are learned


def test_anchors_across_the_border_learn_where_the_configuration_says_so():
    config = replace(FRCNN_VGG_SMALL, sampled_anchors=10_000)
    found = outputs(config)
    whole = replace(config, trains_crossing=True)
    limit = torch.tensor(SIZE)
    some = found.anchors[sample_anchors(config, found, labels()).anchor]
    everywhere = found.anchors[sample_anchors(whole, found, labels()).anchor]
    assert ((some[:, :2] >= 0) & (some[:, 2:] <= limit)).all()
    assert not ((everywhere[:, :2] >= 0) & (everywhere[:, 2:] <= limit)).all()


def test_half_of_a_box_in_a_region_does_not_cover_it():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    assert covered(boxes, torch.tensor([[0.0, -5, 10, 20]])).tolist() == [True, True, False, False]
    assert not covered(boxes, torch.zeros(0, 4)).any()


PROPOSED = torch.tensor(
    [
        [10.0, 12, 30, 60],  # the first person exactly
        [10, 12, 30, 44],  # two thirds of it
        [10, 12, 30, 37],  # half of it and a bit
        [10, 12, 30, 24],  # a quarter
        [100, 0, 120, 40],  # nobody
    ]
)


@pytest.mark.parametrize(("stage", "positives"), [(0, 3), (1, 2), (2, 1)])
def test_each_stage_of_a_cascade_asks_for_more_overlap_and_the_truth_joins(stage, positives):
    limits = CASCADE_SMALL.stages[stage]
    sampled = sample_boxes(CASCADE_SMALL, limits, [PROPOSED], labels())
    real = ~sampled.is_truth
    assert (sampled.row[real] == 0).sum() == positives
    assert (sampled.row[real] == -1).sum() == 5 - positives
    assert sampled.tlbr[sampled.is_truth].tolist() == PEOPLE
    assert sampled.row[sampled.is_truth].tolist() == [0, 1, 2]


def test_at_most_a_quarter_of_the_boxes_are_positives():
    config = replace(FRCNN_SMALL, sampled_boxes=8)
    sampled = sample_boxes(config, Stage(), [PROPOSED.repeat(9, 1)], labels())
    assert (sampled.row >= 0).sum() == 2
    assert (sampled.row < 0).sum() == 6


def test_background_near_people_is_preferred_where_the_configuration_says_so():
    config = replace(FRCNN_SMALL, background_iou=0.1)
    near = sample_boxes(config, Stage(), [PROPOSED], labels())
    assert near.tlbr[near.row < 0].tolist() == [PROPOSED[3].tolist()]
    nobody = sample_boxes(config, Stage(), [PROPOSED], labels([]))
    assert (nobody.row == -1).sum() == 5


def test_pictures_that_only_teach_appearance_have_no_background():
    truth = labels(PEOPLE, [0, 0, 1], learns=(False, True))
    sampled = sample_boxes(FRCNN_SMALL, Stage(), [PROPOSED, PROPOSED], truth)
    assert (sampled.row[sampled.image == 0] >= 0).all()
    assert sampled.detects.tolist() == (sampled.image == 1).tolist()


def test_ignored_regions_hold_no_background():
    truth = labels([PEOPLE[0], [90.0, 0, 128, 96]], ignore=[False, True])
    sampled = sample_boxes(FRCNN_SMALL, Stage(), [PROPOSED], truth)
    assert PROPOSED[4].tolist() not in sampled.tlbr.tolist()
    assert not (sampled.row == 1).any()


def test_the_next_stage_gets_the_boxes_without_the_truth():
    stage = Stage(deviations=(0.1, 0.1, 0.2, 0.2))
    truth = labels(PEOPLE, [0, 0, 1], learns=(True, True))
    sampled = sample_boxes(CASCADE_SMALL, stage, [PROPOSED, PROPOSED[3:]], truth)
    offsets = torch.zeros(len(sampled.row), 4)
    first, second = next_proposals(stage, sampled, offsets, SIZE, 2)
    assert sorted(first.tolist()) == sorted(PROPOSED.tolist())
    assert sorted(second.tolist()) == sorted(PROPOSED[3:].tolist())
    offsets[:, 0] = 5  # half a width, over a deviation of .1
    moved, _ = next_proposals(stage, sampled, offsets, SIZE, 2)
    assert sorted(moved.tolist())[0] == [20, 12, 40, 24]

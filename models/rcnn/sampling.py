"""Which anchors and proposals learn, and from whom.

Few of the many boxes of a picture show a person, so as many of both kinds are drawn as the
configuration says. The draws use torch's global generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jde_ray.models.jde.losses.task_aligned import Labels, pair_iou
from jde_ray.models.rcnn.anchors import decode
from jde_ray.models.rcnn.config import RcnnConfig, Stage
from jde_ray.models.rcnn.proposals import LEAST_SIDE, AnchorOutputs, Proposals

ANCHOR_POSITIVE, ANCHOR_NEGATIVE = 0.7, 0.3  # IoU with a person
ANCHOR_SHARE, BOX_SHARE = 2, 4  # at most one in so many is a positive
COVERED = 0.5  # share of a box in an ignored region from which on it is no background


@dataclass(frozen=True)
class SampledAnchors:
    """S anchors of a batch that learn.

    Attributes:
        image: `(S,)` index of the picture.
        anchor: `(S,)` index of the anchor.
        row: `(S,)` row of `Labels`, -1 for background.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor


@dataclass(frozen=True)
class SampledBoxes:
    """S proposals of a batch that learn.

    Attributes:
        image: `(S,)` index of the picture, ascending.
        tlbr: `(S, 4)` corners in network pixels.
        row: `(S,)` row of `Labels`, -1 for background.
        detects: `(S,)` bool, false in pictures that only teach appearance.
        is_truth: `(S,)` bool, true for the labelled boxes themselves.
    """

    image: Tensor
    tlbr: Tensor
    row: Tensor
    detects: Tensor
    is_truth: Tensor


@torch.no_grad()
def sample_anchors(config: RcnnConfig, found: AnchorOutputs, labels: Labels) -> SampledAnchors:
    """Draw the anchors that learn in each picture that teaches detection.

    A positive overlaps a person by .7, or is the best one for a person that it overlaps by .3; it
    learns the person that it overlaps most. A negative overlaps each person by less than .3, and
    lies by half at most in ignored regions.
    """
    anchors, parts = found.anchors, []
    usable = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    if not config.trains_crossing:
        limit = anchors.new_tensor(found.size)
        usable = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= limit).all(1)
    for image, learns in enumerate(labels.learns_detection.tolist()):
        if not learns:
            continue
        people, ignored = _of_image(labels, image)
        best = torch.zeros(len(anchors), device=anchors.device)
        owner = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        positive = torch.zeros_like(usable)
        if len(people):
            overlap = pair_iou(anchors, labels.tlbr[people]) * usable[:, None]
            best, owner = overlap.max(1)
            most = overlap.amax(0)
            positive = (best >= ANCHOR_POSITIVE) | (
                (overlap == most) & (most >= ANCHOR_NEGATIVE)
            ).any(1)
        negative = (best < ANCHOR_NEGATIVE) & ~positive & ~covered(anchors, labels.tlbr[ignored])
        number = config.sampled_anchors
        chosen = _draw(positive & usable, number // ANCHOR_SHARE)
        rest = _draw(negative & usable, number - len(chosen))
        row = torch.cat((people[owner[chosen]], torch.full_like(rest, -1)))
        index = torch.cat((chosen, rest))
        parts.append((torch.full_like(index, image), index, row))
    if not parts:
        nothing = torch.zeros(0, dtype=torch.int64, device=anchors.device)
        return SampledAnchors(nothing, nothing, nothing)
    return SampledAnchors(*(torch.cat(values) for values in zip(*parts, strict=True)))


@torch.no_grad()
def sample_boxes(
    config: RcnnConfig, stage: Stage, proposals: Sequence[Tensor], labels: Labels
) -> SampledBoxes:
    """Draw the proposals that learn in each picture; those of the labels join them.

    A positive overlaps a person by the stage's limit. A negative overlaps each person by less, but
    one of them by `background_iou` if there is anybody, and lies by half at most in ignored
    regions. Pictures that teach no detection have no negatives.

    Args:
        config: Numbers of boxes.
        stage: The stage that learns from them.
        proposals: For each picture `(P, 4)` corners in network pixels.
        labels: Ground truth of the batch.
    """
    parts = []
    for image, learns in enumerate(labels.learns_detection.tolist()):
        people, ignored = _of_image(labels, image)
        truth = labels.tlbr[people]
        boxes = torch.cat((proposals[image], truth))
        best = boxes.new_zeros(len(boxes))
        owner = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        if len(people):
            best, owner = pair_iou(boxes, truth).max(1)
        positive = best >= stage.positive_iou
        floor = config.background_iou if len(people) else 0.0
        negative = ~positive & (best >= floor) & ~covered(boxes, labels.tlbr[ignored])
        chosen = _draw(positive, config.sampled_boxes // BOX_SHARE)
        rest = _draw(negative & learns, config.sampled_boxes - len(chosen))
        index = torch.cat((chosen, rest))
        row = torch.cat((people[owner[chosen]], torch.full_like(rest, -1)))
        detects = torch.full_like(index, learns, dtype=torch.bool)
        is_truth = index >= len(proposals[image])
        parts.append((torch.full_like(index, image), boxes[index], row, detects, is_truth))
    return SampledBoxes(*(torch.cat(values) for values in zip(*parts, strict=True)))


def real_boxes(proposals: Proposals) -> list[Tensor]:
    """For each picture the `(P, 4)` corners of its proposals, without those that fill it up."""
    return [boxes[real] for boxes, real in zip(proposals.tlbr, proposals.is_real, strict=True)]


@torch.no_grad()
def next_proposals(
    stage: Stage, sampled: SampledBoxes, offsets: Tensor, size: tuple[int, int], batch: int
) -> list[Tensor]:
    """The boxes that a stage gives for what it has seen, without the labelled ones.

    Args:
        stage: The stage.
        sampled: What it has seen.
        offsets: `(S, 4)` its offsets.
        size: Width and height of the pictures.
        batch: Number of pictures.
    """
    tlbr = decode(offsets, sampled.tlbr, size, stage.deviations)
    kept = ((tlbr[:, 2:] - tlbr[:, :2]).amin(1) >= LEAST_SIDE) & ~sampled.is_truth
    return [tlbr[kept & (sampled.image == image)] for image in range(batch)]


def covered(tlbr: Tensor, ignored: Tensor) -> Tensor:
    """`(N,)` whether more than half of each of `(N, 4)` boxes lies in one of `(I, 4)` regions."""
    if not len(ignored):
        return torch.zeros(len(tlbr), dtype=torch.bool, device=tlbr.device)
    corner = torch.maximum(tlbr[:, None, :2], ignored[None, :, :2])
    side = (torch.minimum(tlbr[:, None, 2:], ignored[None, :, 2:]) - corner).clamp(min=0)
    area = (tlbr[:, 2:] - tlbr[:, :2]).prod(1, keepdim=True)
    return (side.prod(2) > COVERED * area).any(1)


def _of_image(labels: Labels, image: int) -> tuple[Tensor, Tensor]:
    """Rows of the people and of the ignored regions of a picture."""
    mine = labels.image == image
    return (
        torch.nonzero(mine & ~labels.ignore).squeeze(1),
        torch.nonzero(mine & labels.ignore).squeeze(1),
    )


def _draw(mask: Tensor, number: int) -> Tensor:
    """Indices of at most `number` true values, drawn at random."""
    index = torch.nonzero(mask).squeeze(1)
    if len(index) <= number:
        return index
    return index[torch.randperm(len(index))[:number].to(index.device)]

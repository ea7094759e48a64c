"""Assignment of people to fixed anchors by overlap, as in the paper and its code.

Scales and people are handled independently, without a forced best match: a person may be the
foreground of several scales, of several cells, or of none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.decode import cell_centres
from jde_ray.models.jde.losses.task_aligned import Labels, pair_iou
from jde_ray.models.losses.box_coding import encode
from jde_ray.models.losses.config import BACKGROUND_IOU, FOREGROUND_IOU


@dataclass(frozen=True)
class AnchorTargets:
    """Targets of one scale's anchors, for a batch of `B` images.

    Attributes:
        kind: `(B, A, H, W)` int64: 1 foreground, 0 background, -1 not learned.
        row: `(B, A, H, W)` int64 row of `Labels` at foreground anchors, else -1.
        box: `(F, 4)` dx, dy, dw, dh of the foreground, in the order of `torch.nonzero(row >= 0)`.
        identity: `(B, H, W)` int64 identity of each cell, -1 for none. The anchors of a cell share
            one embedding; if they belong to several people, the larger number wins.
    """

    kind: Tensor
    row: Tensor
    box: Tensor
    identity: Tensor


def _at_centres(tlbr: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The boxes with their centres clamped into the grid, as the published code compares them."""
    half = (tlbr[:, 2:] - tlbr[:, :2]) / 2
    limit = tlbr.new_tensor([(width - 1) * stride, (height - 1) * stride])
    middle = ((tlbr[:, 2:] + tlbr[:, :2]) / 2).clamp(min=0).minimum(limit)
    return torch.cat((middle - half, middle + half), 1)


@torch.no_grad()
def assign_anchors(
    config: JDEConfig,
    scale: int,
    labels: Labels,
    height: int,
    width: int,
    thresholds: tuple[float, float] = (FOREGROUND_IOU, BACKGROUND_IOU),
) -> AnchorTargets:
    """Foreground where the best overlap is above .5, background below .4; no learning in between.

    Anchors that overlap an ignored box by more than .4 or lie in one do not learn either, unless
    they are foreground; nor do those of images that teach no detection.

    Args:
        config: Configuration that holds the anchors.
        scale: 0, 1, 2 for strides 32, 16, 8.
        labels: Ground truth of the batch.
        height: Grid height in cells.
        width: Grid width in cells.
        thresholds: Other overlaps than .5 and .4.
    """
    most, least = thresholds
    device, stride = labels.tlbr.device, STRIDES[scale]
    sizes = torch.tensor(config.anchors[scale], dtype=labels.tlbr.dtype, device=device)
    grid = cell_centres(config, height, width, device).to(labels.tlbr.dtype) * stride
    centres = grid.permute(1, 2, 0)[None].expand(len(sizes), -1, -1, -1).reshape(-1, 2)
    shapes = sizes[:, None, None].expand(-1, height, width, -1).reshape(-1, 2)
    anchors = torch.cat((centres - shapes / 2, centres + shapes / 2), 1)
    truth = _at_centres(labels.tlbr, stride, height, width)
    batch = len(labels.learns_detection)
    kind = torch.zeros((batch, len(anchors)), dtype=torch.int64, device=device)
    row = torch.full_like(kind, -1)
    for image in range(batch):
        mine = labels.image == image
        people = torch.nonzero(mine & ~labels.ignore).squeeze(1)
        if len(people):
            best, owner = pair_iou(anchors, truth[people]).max(1)
            foreground = best > most
            row[image] = torch.where(foreground, people[owner], -1)
            between = (best > least) & (best < most)
            kind[image] = foreground.long() - between.long()
        ignored = labels.tlbr[mine & labels.ignore]
        if len(ignored):
            inside = (centres[:, None] > ignored[:, :2]) & (centres[:, None] < ignored[:, 2:])
            near = pair_iou(anchors, ignored).amax(1) > least
            left_out = near | inside.all(2).any(1)
            kind[image] = torch.where(left_out & (row[image] < 0), -1, kind[image])
    kind[~labels.learns_detection] = -1
    of_image, anchor = torch.nonzero(row >= 0, as_tuple=True)
    box = encode(truth[row[of_image, anchor]], shapes[anchor], centres[anchor])
    shape = (batch, len(sizes), height, width)
    row = row.view(shape)
    known = torch.cat((labels.identity, labels.identity.new_full((1,), -1)))  # -1 for row -1
    return AnchorTargets(kind.view(shape), row, box, known[row].amax(1))

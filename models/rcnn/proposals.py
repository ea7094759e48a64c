"""The first stage: where people may be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.jde.decode import nms
from jde_ray.models.rcnn.anchors import anchors_of, decode
from jde_ray.models.rcnn.config import RcnnConfig
from jde_ray.models.suppression import suppress

LEAST_SIDE = 1e-3  # of a proposal, in pixels


@dataclass(frozen=True)
class AnchorOutputs:
    """What the first stage says about N anchors in each of B pictures, fine strides first.

    Attributes:
        logits: `(B, N)` of a person against background, float32.
        offsets: `(B, N, 4)` dx, dy, dw, dh, float32.
        anchors: `(N, 4)` corners in network pixels.
        counts: Number of anchors at each stride.
        size: Width and height of the pictures.
    """

    logits: Tensor
    offsets: Tensor
    anchors: Tensor
    counts: tuple[int, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Proposals:
    """P boxes in each of B pictures, the best first.

    Attributes:
        tlbr: `(B, P, 4)` corners in network pixels.
        is_real: `(B, P)` bool, false for boxes that fill a picture's list up.
    """

    tlbr: Tensor
    is_real: Tensor


class ProposalHead(nn.Module):
    """A 3x3 convolution and two 1x1, the same on every map.

    Args:
        config: Anchors and widths.
        channels: Channels of the maps.
    """

    def __init__(self, config: RcnnConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Conv2d(channels, config.rpn_channels, 3, padding=1)
        self.score = nn.Conv2d(config.rpn_channels, config.num_anchors * config.rpn_logits, 1)
        self.box = nn.Conv2d(config.rpn_channels, config.num_anchors * 4, 1)
        for layer in (self.hidden, self.score, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> AnchorOutputs:
        """Outputs for the anchors of `(B, C, H, W)` maps of pictures of a width and height."""
        logits, offsets, counts = [], [], []
        for one in maps:
            hidden = F.relu(self.hidden(one))
            score = _by_cell(self.score(hidden), self.config.rpn_logits)
            if self.config.rpn_logits == 2:  # a softmax of two is a sigmoid of their difference
                score = score[..., 1:] - score[..., :1]
            logits.append(score[..., 0])
            offsets.append(_by_cell(self.box(hidden), 4))
            counts.append(logits[-1].shape[1])
        shapes = [(int(one.shape[2]), int(one.shape[3])) for one in maps]
        anchors = anchors_of(self.config, shapes, maps[0].device)
        return AnchorOutputs(
            torch.cat(logits, 1), torch.cat(offsets, 1), anchors, tuple(counts), size
        )


def _by_cell(raw: Tensor, width: int) -> Tensor:
    """`(B, H W A, width)` float32 from `(B, A width, H, W)`."""
    return raw.float().permute(0, 2, 3, 1).reshape(len(raw), -1, width)


@torch.no_grad()
def propose(config: RcnnConfig, found: AnchorOutputs, *, training: bool = False) -> Proposals:
    """The best boxes of each picture, after suppression within each stride.

    Args:
        config: How many are kept.
        found: Outputs of the first stage.
        training: Whether the numbers of training hold.
    """
    per_level, number = (
        pair[0 if training else 1] for pair in (config.level_proposals, config.proposals)
    )
    boxes, scores = [], []
    limits = [0]
    for count in found.counts:
        limits.append(limits[-1] + count)
    for start, end in pairwise(limits):
        best, rows = found.logits[:, start:end].topk(min(per_level, end - start), dim=1)
        offsets = found.offsets[:, start:end].gather(1, rows[..., None].expand(-1, -1, 4))
        tlbr = decode(offsets, found.anchors[start:end][rows], found.size)
        keep = (tlbr[..., 2:] - tlbr[..., :2]).amin(2) >= LEAST_SIDE
        keep &= _survivors(tlbr, config.proposal_nms)
        boxes.append(tlbr)
        scores.append(best.masked_fill(~keep, -torch.inf))
    tlbr, score = torch.cat(boxes, 1), torch.cat(scores, 1)
    best, rows = score.topk(min(number, score.shape[1]), dim=1)
    is_real = best > -torch.inf
    chosen = tlbr.gather(1, rows[..., None].expand(-1, -1, 4))
    return Proposals(chosen * is_real[..., None], is_real)


def _survivors(tlbr: Tensor, threshold: float) -> Tensor:
    """`(B, K)` bool: which of each picture's boxes, in order of falling score, remain."""
    if tlbr.device.type != "cpu":
        return nms(tlbr, threshold)
    kept = torch.zeros(tlbr.shape[:2], dtype=torch.bool)
    for image, boxes in enumerate(tlbr.numpy()):
        kept[image, torch.from_numpy(suppress(boxes, threshold))] = True
    return kept

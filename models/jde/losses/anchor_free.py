"""Joint loss of the small model's anchor-free heads, and the choice of loss for a network.

Detection learns from a varifocal score loss and complete IoU, appearance from identities and from
a teacher. Embedding losses and weighting are those of the paper's `AnchorLoss`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.decode import cell_centres, decode_scale
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.losses.anchor_based import AnchorLoss
from jde_ray.models.jde.losses.task_aligned import Labels, assign
from jde_ray.models.losses.config import DEFAULTS, LossConfig
from jde_ray.models.losses.embedding import EmbeddingLoss
from jde_ray.models.losses.weighting import TaskGroup, build_weighting

TASKS = ("score", "box", "identity", "appearance")


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of paired corners `(N, 4)`, Zheng et al. (2020): `(N,)`, at most 1."""
    corner = torch.maximum(a[:, :2], b[:, :2])
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - corner).clamp(min=0)
    overlap = size[:, 0] * size[:, 1]
    wh_a, wh_b = (a[:, 2:] - a[:, :2]).clamp(min=1e-6), (b[:, 2:] - b[:, :2]).clamp(min=1e-6)
    iou = overlap / (wh_a.prod(1) + wh_b.prod(1) - overlap).clamp(min=1e-9)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    distance = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]).pow(2).sum(1) / 4
    angle_a, angle_b = (torch.atan(wh[:, 0] / wh[:, 1]) for wh in (wh_a, wh_b))
    shape = 4 / math.pi**2 * (angle_a - angle_b).pow(2)
    with torch.no_grad():
        weight = shape / (1 - iou + shape).clamp(min=1e-9)
    return iou - distance / hull.pow(2).sum(1).clamp(min=1e-9) - weight * shape


def varifocal(logits: Tensor, quality: Tensor, counted: Tensor) -> Tensor:
    """Varifocal loss, Zhang et al. (2021), summed over the counted cells.

    Positives are weighted by their target score, negatives by .75 p^2.
    """
    with torch.no_grad():
        weight = torch.where(quality > 0, quality, 0.75 * logits.sigmoid().pow(2)) * counted
    per_cell = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (per_cell * weight).sum()


class JointLoss(nn.Module):
    """Score, box, identity and appearance losses over all scales at once, and their balance.

    Args:
        config: Configuration of the network.
        num_identities: Classes of the identity loss, 0 for none.
        settings: Losses and their balance.

    Raises:
        ValueError: If `assignment` is set, which only networks with anchors have.
    """

    def __init__(
        self,
        config: JDEConfig,
        num_identities: int,
        settings: LossConfig = DEFAULTS,
    ) -> None:
        super().__init__()
        self.config = config
        if settings.assignment != DEFAULTS.assignment:
            got = f"got {settings.assignment} with {config.name}"
            raise ValueError(f"assignment: {got}, expected a network with anchors")
        self.identity = EmbeddingLoss(
            settings.embedding_loss, config.embedding_dim, num_identities, settings.margin
        )
        start, detects = (-1.0, -2.0, 2.0, -2.0), (True, True, False, False)
        everything = TaskGroup(TASKS, tuple(range(len(STRIDES))), detects, start)
        self.weighting = build_weighting(settings, [everything])

    def forward(
        self, maps: list[ScaleMaps], labels: Labels, features: Sequence[Tensor] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the unweighted parts by task.

        Args:
            maps: Raw maps at strides 32, 16, 8.
            labels: Ground truth of the batch.
            features: Inputs of the heads; only the weighting `mgda` needs them.
        """
        decoded = [decode_scale(self.config, scale, m) for scale, m in enumerate(maps)]
        boxes = torch.cat([d[0] for d in decoded], 1)
        logits = torch.cat([m.score[:, :, 0].flatten(1) for m in maps], 1).float()
        tlbr = torch.cat(
            (boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), 2
        )
        result = assign(tlbr.detach(), logits.detach().sigmoid(), self._centres(maps), labels)
        image, cell = torch.nonzero(result.label >= 0, as_tuple=True)
        row = result.label[image, cell]
        quality = result.quality[image, cell]
        total = result.quality[labels.learns_detection].sum().clamp(min=1.0)
        detects = labels.learns_detection[image]
        overlap = complete_iou(tlbr[image, cell], labels.tlbr[row])
        embedding = torch.cat([m.embedding.flatten(2) for m in maps], 2)[image, :, cell].float()
        embedding = F.normalize(embedding, dim=1, eps=1e-12)
        parts = {
            "score": varifocal(logits, result.quality, result.counted) / total,
            "box": ((1 - overlap) * quality * detects).sum() / total,
            "identity": self.identity(embedding, labels.identity[row]),
            "appearance": _appearance(embedding, labels.appearance[row]),
        }
        return self.weighting(parts, features), parts

    def _centres(self, maps: list[ScaleMaps]) -> Tensor:
        centres = []
        for stride, m in zip(STRIDES, maps, strict=True):
            height, width = m.embedding.shape[2:]
            grid = cell_centres(self.config, height, width, m.embedding.device) * stride
            centres.append(grid.flatten(1).T.repeat(self.config.num_anchors, 1))
        return torch.cat(centres)


def _appearance(embedding: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cosine to the teacher's vectors, over the boxes that have one."""
    known = target.abs().sum(1) > 0
    if not known.any():
        return embedding.sum() * 0
    return (1 - (embedding[known] * target[known]).sum(1)).mean()


def build_loss(
    config: JDEConfig,
    num_identities: int,
    settings: LossConfig = DEFAULTS,
) -> JointLoss | AnchorLoss:
    """The loss that fits the network's heads; arguments are those of the two losses."""
    kind = AnchorLoss if config.score == "softmax" else JointLoss
    return kind(config, num_identities, settings)

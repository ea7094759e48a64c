"""Joint loss of detection and embedding, balanced by learned task uncertainty (paper, eq. 4-6).

The small model's detection losses are those of its anchor-free heads (varifocal score loss,
complete IoU); the identity loss and the balancing are the paper's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.jde.assignment import Labels, assign
from models.jde.config import STRIDES, JDEConfig
from models.jde.decode import cell_centres, decode_scale
from models.jde.head import ScaleMaps

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
    """Varifocal loss, Zhang et al. (2021), summed over counted cells.

    Positives are weighted by their target, negatives by .75 p^2.
    """
    with torch.no_grad():
        weight = torch.where(quality > 0, quality, 0.75 * logits.sigmoid().pow(2)) * counted
    per_cell = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (per_cell * weight).sum()


class JointLoss(nn.Module):
    """Score, box, identity and appearance losses and their learned balance.

    `total = sum over tasks of (exp(-s) L + s) / 2` with one learned s a task (eq. 6).

    Args:
        config: Of the network.
        num_identities: Classes of the identity loss, 0 for none.
    """

    def __init__(self, config: JDEConfig, num_identities: int) -> None:
        super().__init__()
        self.config = config
        self.classifier = nn.Linear(config.embedding_dim, max(1, num_identities))
        # the paper's scale: normalised embeddings times sqrt(2) ln(K - 1)
        self.embedding_scale = math.sqrt(2) * math.log(max(3, num_identities) - 1)
        start = {"score": -1.0, "box": -2.0, "identity": 2.0, "appearance": -2.0}
        self.uncertainty = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(start[task])) for task in TASKS}
        )

    def forward(self, maps: list[ScaleMaps], labels: Labels) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the unweighted parts by task.

        Args:
            maps: Raw maps at strides 32, 16, 8.
            labels: Ground truth of the batch.
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
            "identity": self._identity(embedding, labels.identity[row]),
            "appearance": _appearance(embedding, labels.appearance[row]),
        }
        weighted = [
            (torch.exp(-self.uncertainty[task]) * parts[task] + self.uncertainty[task]) / 2
            for task in TASKS
        ]
        return torch.stack(weighted).sum(), parts

    def _centres(self, maps: list[ScaleMaps]) -> Tensor:
        centres = []
        for stride, m in zip(STRIDES, maps, strict=True):
            height, width = m.embedding.shape[2:]
            grid = cell_centres(self.config, height, width, m.embedding.device) * stride
            centres.append(grid.flatten(1).T.repeat(self.config.num_anchors, 1))
        return torch.cat(centres)

    def _identity(self, embedding: Tensor, identity: Tensor) -> Tensor:
        known = identity >= 0
        if not known.any():
            return embedding.sum() * 0
        logits = self.classifier(self.embedding_scale * embedding[known])
        return F.cross_entropy(logits, identity[known])


def _appearance(embedding: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cosine to the teacher's vectors, where there is one."""
    known = target.abs().sum(1) > 0
    if not known.any():
        return embedding.sum() * 0
    return (1 - (embedding[known] * target[known]).sum(1)).mean()

"""The paper's joint loss, for networks with anchors and (background, foreground) scores.

Its values are those of the published code (`tests/golden/training.npz`), with two defects fixed:
the embedding loss of a batch without identities is 0 instead of NaN, and a head with a single
foreground cell learns from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.losses.anchor_matching import AnchorTargets, assign_anchors
from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.losses.config import DEFAULTS, LossConfig
from jde_ray.models.losses.embedding import EmbeddingLoss
from jde_ray.models.losses.weighting import TaskGroup, build_weighting

ANCHOR_TASKS = ("score", "box", "identity")
# Initial uncertainties of the published code: weights start near 32, 64 and 5
PUBLISHED_START = (-4.15, -4.85, -2.3)


def _full(maps: Tensor) -> Tensor:
    """Maps in float32 at least: the half precision of autocast is too coarse for a loss."""
    return maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps


class AnchorLoss(nn.Module):
    """The paper's loss per head: cross-entropy, smooth L1, embedding loss (section 3).

    Args:
        config: Configuration of a network with (background, foreground) scores.
        num_identities: Classes of the identity loss, 0 for none.
        settings: Losses and their balance.

    Raises:
        ValueError: If the network's scores are sigmoids.
    """

    def __init__(
        self,
        config: JDEConfig,
        num_identities: int,
        settings: LossConfig = DEFAULTS,
    ) -> None:
        super().__init__()
        if config.score != "softmax":
            raise ValueError(f"anchor loss: got score {config.score!r}, expected 'softmax'")
        self.config = config
        self.settings = settings
        self.identity = EmbeddingLoss(
            settings.embedding_loss, config.embedding_dim, num_identities, settings.margin
        )
        detects = (True, True, False)
        groups = [
            TaskGroup(_names(stride), (scale,), detects, PUBLISHED_START)
            for scale, stride in enumerate(STRIDES)
        ]
        self.weighting = build_weighting(settings, groups)

    def forward(
        self, maps: list[ScaleMaps], labels: Labels, features: Sequence[Tensor] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its unweighted parts, `score_32`, `box_32`, ... by head and task.

        Arguments are those of `JointLoss`. For a head without foreground the box and identity
        losses are 0, still attached to its maps.
        """
        parts: dict[str, Tensor] = {}
        for scale, (stride, of_scale) in enumerate(zip(STRIDES, maps, strict=True)):
            height, width = of_scale.embedding.shape[2:]
            targets = assign_anchors(
                self.config, scale, labels, height, width, self.settings.assignment
            )
            parts |= zip(_names(stride), self._head(of_scale, targets, labels), strict=True)
        return self.weighting(parts, features), parts

    def _head(self, maps: ScaleMaps, targets: AnchorTargets, labels: Labels) -> tuple[Tensor, ...]:
        score = score_loss(_full(maps.score), targets.kind)
        image, anchor, y, x = torch.nonzero(targets.row >= 0, as_tuple=True)
        detects = labels.learns_detection[image]
        encoded = _full(maps.box[image, anchor, :, y, x])[detects]
        box = box_loss(encoded, targets.box[detects])
        image, y, x = torch.nonzero(targets.identity >= 0, as_tuple=True)
        embedding = F.normalize(_full(maps.embedding[image, :, y, x]), dim=1, eps=1e-12)
        return score, box, self.identity(embedding, targets.identity[image, y, x])


def _names(stride: int) -> tuple[str, ...]:
    return tuple(f"{task}_{stride}" for task in ANCHOR_TASKS)


def score_loss(logits: Tensor, kind: Tensor) -> Tensor:
    """Mean cross-entropy over the anchors that learn; 0 if none does.

    Args:
        logits: `(B, A, 2, H, W)` of background and foreground.
        kind: `(B, A, H, W)` int64, 1 foreground, 0 background, -1 not learned.
    """
    summed = F.cross_entropy(logits.movedim(2, 1), kind, ignore_index=-1, reduction="sum")
    return summed / (kind >= 0).sum().clamp(min=1)


def box_loss(encoded: Tensor, target: Tensor) -> Tensor:
    """Mean smooth L1 (beta 1) of `(F, 4)` offsets; 0 without foreground."""
    return F.smooth_l1_loss(encoded, target, reduction="sum") / max(1, target.numel())

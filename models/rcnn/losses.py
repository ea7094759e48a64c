"""What two-stage networks learn: proposals, scores, boxes, and identities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.losses.config import LossConfig
from jde_ray.models.losses.embedding import EmbeddingLoss
from jde_ray.models.losses.weighting import TaskGroup, build_weighting
from jde_ray.models.rcnn.anchors import encode
from jde_ray.models.rcnn.config import RcnnConfig, Stage
from jde_ray.models.rcnn.heads import PERSON, StageOutputs
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.models.rcnn.proposals import AnchorOutputs, Proposals, propose
from jde_ray.models.rcnn.sampling import (
    SampledAnchors,
    SampledBoxes,
    next_proposals,
    real_boxes,
    sample_anchors,
    sample_boxes,
)

TASKS = ("proposals", "score", "box", "identity")  # a plain detector has the first three
UNIFORM = LossConfig(weighting="uniform")
PROPOSAL_BETA = 1 / 9  # where the smooth L1 of the anchors turns linear


class RcnnLoss(nn.Module):
    """The losses of both stages, and their balance.

    Anchors and proposals that learn are drawn with torch's global generator.

    Args:
        config: Configuration of the network.
        num_identities: Classes of the identity loss, 0 for none; only with an embedding.
        settings: Losses and their balance; detectors were published with the weighting `uniform`.
    """

    def __init__(
        self,
        config: RcnnConfig,
        num_identities: int = 0,
        settings: LossConfig = UNIFORM,
    ) -> None:
        super().__init__()
        self.config = config
        self.identity: EmbeddingLoss | None = None
        if config.embedding_dim:
            width = config.embedding_dim
            self.identity = EmbeddingLoss(
                settings.embedding_loss, width, num_identities, settings.margin
            )
        number = len(TASKS) if self.identity is not None else len(TASKS) - 1
        detects, start = (True, True, True, False), (0.0, 0.0, 0.0, 2.0)
        maps = tuple(range(len(config.strides)))
        group = TaskGroup(TASKS[:number], maps, detects[:number], start[:number])
        self.weighting = build_weighting(settings, [group])

    def forward(
        self, model: RcnnNet, images: Tensor, labels: Labels
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the unweighted parts by task.

        Args:
            model: The network, which this module does not own.
            images: `(B, 3, H, W)` RGB in [0, 1], as `model.normalise` gives them.
            labels: Ground truth of the batch.
        """
        size = (int(images.shape[3]), int(images.shape[2]))
        features = model.features(images)
        found = model.anchor_outputs(features, size)
        parts = {
            "proposals": proposal_loss(found, sample_anchors(self.config, found, labels), labels)
        }
        proposals = propose(self.config, found, training=True)
        parts |= self._stages(model, features, proposals, labels, size)
        return self.weighting(parts, features), parts

    def _stages(
        self,
        model: RcnnNet,
        features: list[Tensor],
        proposals: Proposals,
        labels: Labels,
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Losses of the stages' scores and boxes, weighted and summed, and of the embedding."""
        config, batch = self.config, len(labels.learns_detection)
        boxes = real_boxes(proposals)
        scores, places = [], []
        parts: dict[str, Tensor] = {}
        for number, stage in enumerate(config.stages):
            sampled = sample_boxes(config, stage, boxes, labels)
            outputs = model.look(number, features, sampled.image, sampled.tlbr)
            score, place = stage_losses(config, stage, outputs, sampled, labels)
            scores.append(stage.loss_weight * score)
            places.append(stage.loss_weight * place)
            if number + 1 < len(config.stages):
                boxes = next_proposals(stage, sampled, outputs.offsets, size, batch)
            elif self.identity is not None:
                person = sampled.row >= 0
                embedding = F.normalize(outputs.embedding[person], dim=1, eps=1e-12)
                parts["identity"] = self.identity(embedding, labels.identity[sampled.row[person]])
        return {"score": torch.stack(scores).sum(), "box": torch.stack(places).sum()} | parts


def proposal_loss(found: AnchorOutputs, sampled: SampledAnchors, labels: Labels) -> Tensor:
    """Binary cross-entropy and smooth L1 of the sampled anchors, over their number.

    Args:
        found: Outputs of the first stage.
        sampled: Anchors that learn.
        labels: Ground truth.
    """
    number = max(1, len(sampled.row))
    person = sampled.row >= 0
    logits = found.logits[sampled.image, sampled.anchor]
    score = F.binary_cross_entropy_with_logits(logits, person.to(logits.dtype), reduction="sum")
    image, anchor = sampled.image[person], sampled.anchor[person]
    target = encode(labels.tlbr[sampled.row[person]], found.anchors[anchor])
    offsets = found.offsets[image, anchor]
    box = F.smooth_l1_loss(offsets, target, beta=PROPOSAL_BETA, reduction="sum")
    return (score + box) / number


def stage_losses(
    config: RcnnConfig, stage: Stage, outputs: StageOutputs, sampled: SampledBoxes, labels: Labels
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the sampled boxes and smooth L1 of the positives, over their number.

    Boxes of pictures that only teach appearance do not count.

    Args:
        config: Where the smooth L1 turns linear.
        stage: Deviations of the offsets.
        outputs: The stage's outputs for the sampled boxes.
        sampled: Boxes that learn.
        labels: Ground truth.
    """
    number = sampled.detects.sum().clamp(min=1)
    person = sampled.row >= 0
    kind = torch.where(person, PERSON, 0).masked_fill(~sampled.detects, -100)
    score = F.cross_entropy(outputs.logits, kind, reduction="sum", ignore_index=-100)
    learns = person & sampled.detects
    target = encode(labels.tlbr[sampled.row[learns]], sampled.tlbr[learns], stage.deviations)
    offsets = outputs.offsets[learns]
    box = F.smooth_l1_loss(offsets, target, beta=config.box_beta, reduction="sum")
    return score / number, box / number

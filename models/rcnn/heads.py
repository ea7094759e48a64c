"""The second stage: which proposals are people, and where exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.rcnn.anchors import decode
from jde_ray.models.rcnn.config import RcnnConfig, Stage
from jde_ray.models.rcnn.roi import BINS

PERSON = 1  # class number; 0 is background


class StageOutputs(NamedTuple):
    """What a stage says about R boxes, float32.

    Attributes:
        logits: `(R, K)` of the classes.
        offsets: `(R, 4)` of a person, over the stage's deviations.
        embedding: `(R, D)`, not normalised; D is 0 where the stage has none.
    """

    logits: Tensor
    offsets: Tensor
    embedding: Tensor


class StageHead(nn.Module):
    """Two fully connected layers, and linear ones for scores, offsets and embedding.

    Args:
        config: Widths.
        stage: The stage's numbers.
        channels: Channels of the maps.
        embedding_dim: D of this stage; 0 for none.
    """

    def __init__(
        self, config: RcnnConfig, stage: Stage, channels: int, embedding_dim: int = 0
    ) -> None:
        super().__init__()
        self.stage = stage
        self.agnostic = config.class_agnostic
        first, second = config.head_widths
        self.fc6 = nn.Linear(channels * BINS**2, first)
        self.fc7 = nn.Linear(first, second)
        self.drop = nn.Dropout(config.dropout)
        self.score = nn.Linear(second, config.num_classes)
        self.box = nn.Linear(second, 4 * (1 if self.agnostic else config.num_classes))
        self.embedding = nn.Linear(second, embedding_dim) if embedding_dim else None
        for layer, deviation in ((self.score, 0.01), (self.box, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> StageOutputs:
        """Outputs for `(R, C, 7, 7)` features."""
        flat = pooled.flatten(1).to(self.fc6.weight.dtype)
        x = self.drop(F.relu(self.fc6(flat)))
        x = self.drop(F.relu(self.fc7(x)))
        offsets = self.box(x).float()
        if not self.agnostic:
            offsets = offsets[:, 4 * PERSON : 4 * PERSON + 4]
        embedding = x.new_zeros(len(x), 0) if self.embedding is None else self.embedding(x)
        return StageOutputs(self.score(x).float(), offsets, embedding.float())

    def boxes(self, outputs: StageOutputs, tlbr: Tensor, size: tuple[int, int]) -> Tensor:
        """`(R, 4)` corners that the stage gives for the boxes it has seen, within the picture."""
        return decode(outputs.offsets, tlbr, size, self.stage.deviations)


def person_scores(logits: Tensor) -> Tensor:
    """`(R,)` probability of a person from `(R, K)` logits."""
    return logits.softmax(1)[:, PERSON]


def average(scores: list[Tensor]) -> Tensor:
    """Mean of the stages' `(R,)` scores."""
    return torch.stack(scores).mean(0)

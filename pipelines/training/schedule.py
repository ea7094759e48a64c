"""The budget of a training, its losses, and its learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from jde_ray.pipelines.training.settings import TrainingConfig, ValidationConfig


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Settings of a training loop.

    Attributes:
        config: Budget and learning rates.
        num_identities: Classes of the identity loss.
        steps_per_epoch: Steps per pass over the images.
        embedding_loss: One of `models.losses.embedding.EMBEDDING_LOSSES`.
        weighting: One of `models.losses.weighting.WEIGHTINGS`.
        margin: Margin of the embedding loss `triplet`, a difference of cosines.
        validation: Schedule of validation; None for never.
        notes: Metadata of the weight file.
        classifier: Initial `weight` and `bias` of the identity loss; None for random ones.
    """

    config: TrainingConfig
    num_identities: int
    steps_per_epoch: int
    embedding_loss: str = "cross_entropy"
    weighting: str = "uncertainty"
    margin: float = 0.0
    validation: ValidationConfig | None = None
    notes: dict[str, str] = field(default_factory=dict)
    classifier: Mapping[str, Tensor] | None = None

    @property
    def budget(self) -> str:
        """Text such as `28 epochs, 840 steps` or `60 minutes`."""
        if self.config.minutes is not None:
            return f"{self.config.minutes:g} minutes"
        assert self.config.epochs is not None  # noqa: S101 - one of both is set
        return f"{self.config.epochs} epochs, {self.config.epochs * self.steps_per_epoch} steps"

    def fraction(self, step: int, elapsed_s: float) -> float:
        """Fraction of the budget used after `step` steps and `elapsed_s` seconds."""
        if self.config.minutes is not None:
            return elapsed_s / (60 * self.config.minutes)
        assert self.config.epochs is not None  # noqa: S101 - one of both is set
        return step / (self.config.epochs * self.steps_per_epoch)

    def lr(self, step: int, fraction: float) -> float:
        """Learning rate of a step: warm-up, then half a cosine to 2 %, or a tenth at each decay."""
        config = self.config
        steps = config.warmup_steps
        if config.schedule == "steps":  # warm-up ends with the first epoch, as published
            steps = min(steps, self.steps_per_epoch)
        warm = min(1.0, (step + 1) / steps) ** config.warmup_power
        if config.schedule == "cosine":
            fallen = 0.02 + 0.98 * (1 + math.cos(math.pi * fraction)) / 2
            return float(config.learning_rate * warm * fallen)
        passed = sum(step // self.steps_per_epoch >= e for e in config.decay_epochs)
        return float(config.learning_rate * warm * 0.1**passed)

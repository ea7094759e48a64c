"""The budget of a training and its learning rate at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jde_ray.pipelines.training.settings import TrainingConfig


@dataclass(frozen=True)
class Schedule:
    """When a training ends, and its learning rate until then.

    Attributes:
        config: Budget and rates.
        steps_per_epoch: Steps in a pass over the images.
    """

    config: TrainingConfig
    steps_per_epoch: int

    @property
    def budget(self) -> str:
        """Text such as `28 epochs, 840 steps` or `60 minutes`."""
        if self.config.minutes is not None:
            return f"{self.config.minutes:g} minutes"
        if self.config.steps is not None:
            return f"{self.config.steps} steps"
        return f"{self.config.epochs} epochs, {self.num_steps} steps"

    @property
    def num_steps(self) -> int | None:
        """Number of steps of the budget; None if it is minutes."""
        if self.config.epochs is not None:
            return self.config.epochs * self.steps_per_epoch
        return self.config.steps

    def fraction(self, step: int, elapsed_s: float) -> float:
        """Fraction of the budget used after `step` steps and `elapsed_s` seconds."""
        if self.config.minutes is not None:
            return elapsed_s / (60 * self.config.minutes)
        assert self.num_steps is not None  # noqa: S101 - one of the budgets is set
        return step / self.num_steps

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

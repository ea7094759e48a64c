"""The recurrent autoregression in torch, for training (Fang et al., WACV 2018).

Association runs `models.tracking.autoregression`, which is the same in numpy and says what the
inputs are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from jde_ray.models.losses.weighting import FixedWeighting, TaskGroup
from jde_ray.models.motion.config import MotionConfig
from jde_ray.models.tracking import autoregression
from jde_ray.models.tracking.autoregression import HIDDEN, INPUTS, MEMORY, Autoregression

_LEAST_SHARE = 0.01  # of the true steps that lie below `least`
_LEAST_PACE = 0.02  # of its moving mean


class MotionNet(nn.Module):
    """A GRU without biases that foretells the next input as a mean of the last ones.

    Attributes:
        least: `()` moving mean, over the batches of the training, of the log density below which
            1 % of the steps lie.
    """

    least: Tensor
    batches: Tensor

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        self.gru = nn.GRU(INPUTS, HIDDEN, bias=False, batch_first=True)
        self.attention = nn.Linear(HIDDEN, MEMORY)
        self.spread = nn.Linear(HIDDEN, INPUTS)
        self.register_buffer("least", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of each input, from those before it.

        Args:
            inputs: `(B, T, INPUTS)` of pieces of tracks.

        Returns:
            Both `(B, T, INPUTS)`.
        """
        after, _ = self.gru(inputs)
        hidden = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
        before = torch.cat([inputs.new_zeros(len(inputs), MEMORY, INPUTS), inputs[:, :-1]], dim=1)
        memory = before.unfold(1, MEMORY, 1).flip(-1)  # (B, T, INPUTS, MEMORY), newest first
        share = self.attention(hidden).softmax(dim=-1)
        mean = (memory * share[:, :, None]).sum(dim=-1)
        return mean, self.spread(hidden)

    def log_density(self, inputs: Tensor) -> Tensor:
        """`(B, T)` log densities of the inputs, each given those before it."""
        mean, log_variance = self(inputs)
        squares = (inputs - mean).square() * torch.exp(-log_variance)
        density: Tensor = -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(dim=-1)
        return density

    @torch.no_grad()
    def note(self, density: Tensor) -> None:
        """Let `least` follow the log densities of a batch."""
        self.batches += 1
        lowest = torch.quantile(density.float(), _LEAST_SHARE)
        self.least.lerp_(lowest, max(_LEAST_PACE, 1 / int(self.batches)))


class MotionLoss(nn.Module):
    """Mean negative log density of the true steps of tracks."""

    def __init__(self) -> None:
        super().__init__()
        group = TaskGroup(("motion",), (0,), (True,), (0.0,))
        self.weighting = FixedWeighting((group,), 1.0, 1.0)

    def forward(self, density: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its part, of `(B, T)` log densities."""
        losses = {"motion": -density.mean()}
        return self.weighting(losses, ()), losses


def _tensors(model: MotionNet) -> dict[str, Tensor]:
    """Tensors by their names in `Autoregression`."""
    named = {
        "from_input": model.gru.weight_ih_l0,
        "from_state": model.gru.weight_hh_l0,
        "attention": model.attention.weight,
        "attention_bias": model.attention.bias,
        "spread": model.spread.weight,
        "spread_bias": model.spread.bias,
        "least": model.least,
    }
    return {name: cast("Tensor", value) for name, value in named.items()}


def to_numpy(model: MotionNet) -> Autoregression:
    """The parameters for association."""
    arrays = {
        name: value.detach().cpu().numpy().astype(np.float64)
        for name, value in _tensors(model).items()
    }
    return Autoregression(**arrays)


def save(model: MotionNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write the file that association reads, with `notes` as metadata."""
    to_numpy(model).save(path, notes)


@torch.no_grad()
def load_into(model: MotionNet, path: Path) -> int:
    """Take the parameters of a file; return their number of tensors.

    Raises:
        ValueError: If it is missing, or another one; one line.
    """
    held = autoregression.read(path)
    targets = _tensors(model)
    for name, target in targets.items():
        target.copy_(torch.from_numpy(getattr(held, name)))
    return len(targets)

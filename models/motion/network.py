"""The recurrent autoregressions in torch, for training (Fang et al., WACV 2018).

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
from jde_ray.models.tracking import ran_weights
from jde_ray.models.tracking.autoregression import HIDDEN, INPUTS, MEMORY, Autoregression
from jde_ray.models.tracking.projection import Projection
from jde_ray.models.tracking.ran_weights import LOOK_HIDDEN, Looks, RanWeights

_LEAST_SHARE = 0.01  # of the true steps that lie below `least`
_LEAST_PACE = 0.02  # of its moving mean


class Recurrence(nn.Module):
    """A GRU without biases that foretells the next input as a mean of the last ones.

    Args:
        inputs: I, numbers of an input.
        hidden: Width of the state.

    Attributes:
        least: `()` moving mean, over the batches of the training, of the log density below which
            1 % of the steps lie.
    """

    least: Tensor
    batches: Tensor

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, bias=False, batch_first=True)
        self.attention = nn.Linear(hidden, MEMORY)
        self.spread = nn.Linear(hidden, inputs)
        self.register_buffer("least", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of each input, from those before it.

        Args:
            inputs: `(B, T, I)` of pieces of tracks.

        Returns:
            Both `(B, T, I)`.
        """
        after, _ = self.gru(inputs)
        hidden = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
        nothing = inputs.new_zeros(len(inputs), MEMORY, inputs.shape[2])
        before = torch.cat([nothing, inputs[:, :-1]], dim=1)
        memory = before.unfold(1, MEMORY, 1).flip(-1)  # (B, T, I, MEMORY), newest first
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


class LookNet(Recurrence):
    """The autoregression of appearance; `least` is that of motion and appearance together.

    Args:
        projection: From embeddings to its inputs; it is not learned.
    """

    matrix: Tensor
    centre: Tensor

    def __init__(self, projection: Projection) -> None:
        super().__init__(projection.num_components, LOOK_HIDDEN)
        self.projection = projection
        self.register_buffer("matrix", torch.from_numpy(projection.matrix).float())
        self.register_buffer("centre", torch.from_numpy(projection.centre).float())

    def components(self, embeddings: Tensor) -> Tensor:
        """`(B, S, K)` components of `(B, S, D)` unit embeddings."""
        return (embeddings - self.centre) @ self.matrix.T

    def learned(self) -> Looks:
        """The parameters for association."""
        matrix, centre = _array(self.matrix), _array(self.centre)
        own = self.projection
        projection = Projection(
            matrix=matrix,
            centre=centre,
            embedder=own.embedder,
            embedder_sha256=own.embedder_sha256,
        )
        return Looks(regression=_regression(self), projection=projection)


class MotionNet(Recurrence):
    """The autoregression of motion, with that of appearance once it is to learn from embeddings.

    Attributes:
        looks: The autoregression of appearance; None at first.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__(INPUTS, HIDDEN)
        self.config = config
        self.looks: LookNet | None = None

    def see(self, projection: Projection | None) -> None:
        """Learn appearance through a projection, or none.

        What was learned through one of the same network stays, with its own projection.
        """
        if projection is None:
            self.looks = None
            return
        before = None if self.looks is None else self.looks.projection
        is_known = before is not None and before.width == projection.width
        if before is None or not is_known or before.embedder_sha256 != projection.embedder_sha256:
            self.looks = LookNet(projection)


class MotionLoss(nn.Module):
    """Mean negative log density of the true steps of tracks.

    Args:
        has_looks: Whether appearance is learned too; both count alike.
    """

    def __init__(self, has_looks: bool = False) -> None:
        super().__init__()
        tasks = ("motion", "look") if has_looks else ("motion",)
        number = len(tasks)
        group = TaskGroup(tasks, (0,) * number, (True,) * number, (0.0,) * number)
        self.weighting = FixedWeighting((group,), 1.0, 1.0)

    def forward(
        self, density: Tensor, of_looks: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its parts.

        Args:
            density: `(B, T)` log densities of motion.
            of_looks: `(N,)` log densities of appearance, perhaps of nobody.
        """
        losses = {"motion": -density.mean()}
        if of_looks is not None:
            losses["look"] = -of_looks.sum() / max(1, len(of_looks))
        return self.weighting(losses, ()), losses


def _tensors(model: Recurrence) -> dict[str, Tensor]:
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


def _array(value: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return value.detach().cpu().numpy().astype(np.float64)


def _regression(model: Recurrence) -> Autoregression:
    return Autoregression(**{name: _array(value) for name, value in _tensors(model).items()})


def to_numpy(model: MotionNet) -> RanWeights:
    """The parameters for association."""
    looks = None if model.looks is None else model.looks.learned()
    return RanWeights(motion=_regression(model), looks=looks)


def save(model: MotionNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write the file that association reads, with `notes` as metadata."""
    to_numpy(model).save(path, notes)


@torch.no_grad()
def load_into(model: MotionNet, path: Path) -> int:
    """Take the parameters of a file; return their number of tensors.

    Raises:
        ValueError: If it is missing, or another one; one line.
    """
    held = ran_weights.read(path)
    pairs: list[tuple[Recurrence, Autoregression]] = [(model, held.motion)]
    if held.looks is not None:
        model.looks = LookNet(held.looks.projection)
        pairs.append((model.looks, held.looks.regression))
    number = 0 if model.looks is None else 2  # of the projection
    for network, parameters in pairs:
        for name, target in _tensors(network).items():
            target.copy_(torch.from_numpy(getattr(parameters, name)))
            number += 1
    return number

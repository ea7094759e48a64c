"""A joint network and its loss; on a GPU the network is replayed from recorded graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.losses.anchor_based import AnchorLoss
from jde_ray.models.jde.losses.anchor_free import JointLoss
from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.jde.network import JDE

Outputs = tuple[Tensor, ...]
Record = Callable[[nn.Module, Tensor], Callable[[Tensor], Outputs]]


class Pass(nn.Module):
    """The network from bytes to flat outputs, which is what a graph can record.

    Args:
        model: Network to train.
        precision: `bf16` for autocast, else `fp32`.
    """

    def __init__(self, model: JDE, precision: str) -> None:
        super().__init__()
        self.model = model
        self.in_bf16 = precision == "bf16"

    def forward(self, images: Tensor) -> Outputs:
        """Three features and three maps (nine tensors) of `(B, H, W, 3)` uint8 images."""
        pixels = images.permute(0, 3, 1, 2).float() / 255
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        # the cache of converted weights must not outlive a recording
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=self.in_bf16, cache_enabled=False
        ):
            features = self.model.features(pixels)
            maps = self.model.predict(features)
        return (*features, *(tensor for scale in maps for tensor in scale))


def record(module: nn.Module, images: Tensor) -> Callable[[Tensor], Outputs]:
    """Forward and backward pass of one shape as CUDA graphs, started by one call each.

    The network's launches take the host longer than the GPU: 200 forwards and 400 backwards of a
    few microseconds.
    """
    graphed = torch.cuda.make_graphed_callables(module, (images,), allow_unused_input=True)
    return cast("Callable[[Tensor], Outputs]", graphed)


class JointTrainee(nn.Module):
    """A joint network and its loss as one module.

    Args:
        model: Network to train.
        loss: Its loss.
        precision: `bf16` for autocast, else `fp32`.
        recorded: Replay recordings of the network, one for each shape of a batch.
        record: Makes a recording; another one in tests.
    """

    def __init__(
        self,
        model: JDE,
        loss: JointLoss | AnchorLoss,
        precision: str,
        *,
        recorded: bool = False,
        record: Record = record,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.precision = model, loss, precision
        self.record = record if recorded else None
        self.recordings: dict[tuple[int, ...], Callable[[Tensor], Outputs]] = {}

    def forward(self, images: Tensor, labels: Labels) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its parts for `(B, H, W, 3)` uint8 images."""
        outputs = self._run(images)
        count = len(outputs) // 4
        features, flat = outputs[:count], outputs[count:]
        maps = [ScaleMaps(*flat[3 * scale : 3 * scale + 3]) for scale in range(count)]
        total, parts = self.loss(maps, labels, features)
        return total, parts

    def _run(self, images: Tensor) -> Outputs:
        if self.record is None or not self.training:
            outputs: Outputs = Pass(self.model, self.precision)(images)
            return outputs
        shape = tuple(images.shape)
        if shape not in self.recordings:
            self.recordings[shape] = self.record(Pass(self.model, self.precision), images)
        return self.recordings[shape](images)

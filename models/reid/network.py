"""Re-identification networks: a backbone, pooling, and one of four heads.

* `ide`: one linear layer with batch norm, whose output a classifier of identities learns from.
* `triplet`: a hidden layer and a linear one, whose outputs are compared by Euclidean distance.
* `pcb`: as `ide` in each horizontal stripe of the last map, with one layer for all stripes; or, if
  `refined`, in parts to which a linear layer assigns the cells.
* `cosine`: DeepSORT's: as `ide`, with an ELU and a second batch norm behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.backbones.csp import CspNet
from jde_ray.models.backbones.inception import Inception
from jde_ray.models.backbones.plain import PlainNet
from jde_ray.models.backbones.registry import BACKBONES
from jde_ray.models.backbones.wide_residual import WideResidualNet, start_kernels
from jde_ray.models.reid.config import ReidConfig
from jde_ray.models.reid.sets import QualityBranch, ellipse, masked_mean


@dataclass(frozen=True)
class PartVectors:
    """What the losses see of B crops with P parts.

    Attributes:
        raw: `(B, P, W)` outputs of the linear layer, before its batch norm.
        vectors: `(B, P, W)` outputs of the head.
        quality: `(B,)` quality of each crop, in (0, 1); None if the network does not tell it.
    """

    raw: Tensor
    vectors: Tensor
    quality: Tensor | None = None

    def float(self) -> PartVectors:
        """The same in float32."""
        return replace(self, raw=self.raw.float(), vectors=self.vectors.float())


def appearance(vectors: Tensor) -> Tensor:
    """`(B, P W)` appearance vectors of length 1 from the `(B, P, W)` vectors of parts.

    Each part counts as much as any other.
    """
    joined: Tensor = F.normalize(vectors.float(), dim=2).flatten(1)
    return joined / math.sqrt(vectors.shape[1])


class ScaleUnit(nn.Module):
    """A residual unit that weighs several receptive fields against each other, crop by crop.

    Clothes differ in small things (a logo) and in large ones (a red jacket). As in Zhou et al.,
    "Omni-Scale Feature Learning for Person Re-Identification" (2019), streams of one to four cheap
    3x3 convolutions see 3x3 to 9x9 cells, and one gate, shared by the streams, weighs each
    channel of each of them.

    Args:
        channels: Channels in and out.
        hidden: Channels within.
        num_streams: Number of streams.
    """

    def __init__(self, channels: int, hidden: int = 64, num_streams: int = 4) -> None:
        super().__init__()
        self.reduce = _normed(nn.Conv2d(channels, hidden, 1, bias=False), active=True)
        self.streams = nn.ModuleList(
            nn.Sequential(*(_cheap(hidden) for _ in range(length + 1)))
            for length in range(num_streams)
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(hidden, hidden // 8, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden // 8, hidden, 1),
            nn.Sigmoid(),
        )
        self.expand = _normed(nn.Conv2d(hidden, channels, 1, bias=False), active=False)
        nn.init.zeros_(cast("Tensor", self.expand[1].weight))  # the unit starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        reduced = self.reduce(x)
        seen = [stream(reduced) for stream in self.streams]
        mixed = torch.stack([self.gate(one) * one for one in seen]).sum(0)
        return F.relu(x + self.expand(mixed))


def _normed(convolution: nn.Conv2d, *, active: bool) -> nn.Sequential:
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(convolution.out_channels)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


def _cheap(channels: int) -> nn.Sequential:
    """A 1x1 convolution and one of 3x3 in each channel."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(pointwise, *_normed(depthwise, active=True))


class ReidNet(nn.Module):
    """From crops to appearance vectors.

    Args:
        config: Architecture.
    """

    def __init__(self, config: ReidConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = _build_backbone(config)
        channels = cast("tuple[int, ...]", self.backbone.channels)
        last = channels[-1]
        self.units = nn.Sequential(*(ScaleUnit(last) for _ in range(config.scale_units)))
        self.parts = nn.Conv2d(last, config.stripes, 1) if config.refined else None
        pooled = 2 * last + channels[0] if config.rich_pooling else last
        if config.pooling == "flatten":
            pooled = last * config.cells
        layers: list[nn.Module] = []
        if config.hidden:
            layers += [nn.Linear(pooled, config.hidden), nn.BatchNorm1d(config.hidden), nn.ReLU()]
        self.before = nn.Sequential(*layers)
        self.linear = nn.Linear(config.hidden or pooled, config.width, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(config.width)
        if config.head == "triplet":
            self.norm = nn.Identity()
        self.drop = nn.Dropout(config.dropout)
        self.quality = QualityBranch() if config.quality else None
        if config.head == "triplet":
            nn.init.orthogonal_(self.linear.weight)
        if config.head == "cosine":
            start_kernels(self.linear)
            norms = (nn.BatchNorm1d(config.width), nn.BatchNorm1d(config.width))
            for norm in norms:  # as in the backbone, they learn a shift only
                norm.weight.requires_grad_(False)
            self.norm = nn.Sequential(norms[0], nn.ELU(), norms[1])

    def describe(self, crops: Tensor) -> tuple[Tensor, Tensor | None]:
        """The vectors of `forward`, and the `(B,)` quality of each crop if the network tells it."""
        found = self.part_vectors(crops)
        return appearance(found.vectors), found.quality

    def part_vectors(self, crops: Tensor) -> PartVectors:
        """Vectors of each part of `(B, 3, H, W)` RGB crops in [0, 1]."""
        found = self._look(crops)
        return found if self.quality is None else replace(found, quality=self.quality(crops))

    def _look(self, crops: Tensor) -> PartVectors:
        features = self.backbone(crops)
        return self.head(features[0], self.units(features[-1]))

    def head(self, fine: Tensor, last: Tensor) -> PartVectors:
        """Vectors of each part from the maps of stride 8 and of the last stage."""
        config = self.config
        parts = self._pooled(last)
        if config.rich_pooling:
            parts = torch.cat((parts, last.amax((2, 3))[:, None], fine.mean((2, 3))[:, None]), 2)
        if config.head in ("pcb", "cosine"):
            parts = self.drop(parts)
        number = config.stripes
        raw = self.linear(self.before(parts.flatten(0, 1)))
        vectors = self.norm(raw)
        if config.activation:
            vectors = F.relu(vectors)
        if config.head == "ide":
            vectors = self.drop(vectors)
        shape = (-1, number, config.width)
        return PartVectors(raw.view(shape), vectors.view(shape))

    def _pooled(self, last: Tensor) -> Tensor:
        """`(B, P, C)` features of the parts from the last map."""
        config = self.config
        if config.pooling == "flatten":
            return last.flatten(1)[:, None]
        if config.pooling == "ellipse":
            height, width = last.shape[2:]
            return masked_mean(last, ellipse(height, width, last.device))[:, None]
        if self.parts is not None:
            return weighted(last, self.parts(last).softmax(1))
        return stripes(last, config.stripes)

    def forward(self, crops: Tensor) -> Tensor:
        """`(B, D)` appearance vectors of length 1 of `(B, 3, H, W)` RGB crops in [0, 1].

        The vector of the head `triplet`, which is learned by its raw distances, is normalised too,
        since the association compares directions.
        """
        return appearance(self._look(crops).vectors)


def stripes(features: Tensor, number: int) -> Tensor:
    """`(B, number, C)` means of equal horizontal stripes of `(B, C, H, W)`."""
    batch, channels, height, width = features.shape
    parts = features.reshape(batch, channels, number, height // number, width)
    return parts.mean((3, 4)).transpose(1, 2)


def weighted(features: Tensor, shares: Tensor) -> Tensor:
    """`(B, P, C)` means of `(B, C, H, W)`, weighted by the `(B, P, H, W)` shares of P parts.

    Refined part pooling of Sun et al. (2018): cells that look alike make a part, wherever they lie.
    With shares of 1 in a stripe and 0 elsewhere it equals `stripes`.
    """
    weights = shares.flatten(2)
    means = weights @ features.flatten(2).transpose(1, 2)
    total: Tensor = means / weights.sum(2, keepdim=True).clamp(min=1e-6)
    return total


_OWN_BACKBONES: dict[str, Callable[[], nn.Module]] = {  # without the three maps of joint networks
    "csp16": partial(CspNet, num_stages=3),
    "wrn": WideResidualNet,
    "wrn-half": partial(WideResidualNet, width=16),
    "inception": Inception,
    "plain": PlainNet,
}


def _build_backbone(config: ReidConfig) -> nn.Module:
    if config.backbone in _OWN_BACKBONES:
        return _OWN_BACKBONES[config.backbone]()
    backbone: Any = BACKBONES[config.backbone]()
    if config.last_stride == 1:
        first = backbone.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
    return cast("nn.Module", backbone)

"""Re-identification networks: a backbone, pooling, and one of three heads.

* `ide`: one linear layer with batch norm, whose output a classifier of identities learns from.
* `triplet`: a hidden layer and a linear one, whose outputs are compared by Euclidean distance.
* `pcb`: as `ide` in each horizontal stripe of the last map, with one layer for all stripes; or, if
  `refined`, in parts to which a linear layer assigns the cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.backbones.csp import CspNet
from jde_ray.models.backbones.registry import BACKBONES
from jde_ray.models.reid.config import ReidConfig


@dataclass(frozen=True)
class PartVectors:
    """What the losses see of B crops with P parts.

    Attributes:
        raw: `(B, P, W)` outputs of the linear layer, before its batch norm.
        vectors: `(B, P, W)` outputs of the head.
    """

    raw: Tensor
    vectors: Tensor


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
        layers: list[nn.Module] = []
        if config.hidden:
            layers += [nn.Linear(pooled, config.hidden), nn.BatchNorm1d(config.hidden), nn.ReLU()]
        self.before = nn.Sequential(*layers)
        self.linear = nn.Linear(config.hidden or pooled, config.width, bias=False)
        self.norm = nn.Identity() if config.head == "triplet" else nn.BatchNorm1d(config.width)
        self.drop = nn.Dropout(config.dropout)
        if config.head == "triplet":
            nn.init.orthogonal_(self.linear.weight)

    def part_vectors(self, crops: Tensor) -> PartVectors:
        """Vectors of each part of `(B, 3, H, W)` RGB crops in [0, 1]."""
        features = self.backbone(crops)
        return self.head(features[0], self.units(features[-1]))

    def head(self, fine: Tensor, last: Tensor) -> PartVectors:
        """Vectors of each part from the maps of stride 8 and of the last stage."""
        config = self.config
        if self.parts is None:
            parts = stripes(last, config.stripes)
        else:
            parts = weighted(last, self.parts(last).softmax(1))
        if config.rich_pooling:
            parts = torch.cat((parts, last.amax((2, 3))[:, None], fine.mean((2, 3))[:, None]), 2)
        if config.head == "pcb":
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

    def forward(self, crops: Tensor) -> Tensor:
        """`(B, D)` appearance vectors of length 1 of `(B, 3, H, W)` RGB crops in [0, 1].

        The vector of the head `triplet`, which is learned by its raw distances, is normalised too,
        since the association compares directions.
        """
        return appearance(self.part_vectors(crops).vectors)


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


def _build_backbone(config: ReidConfig) -> nn.Module:
    if config.backbone == "csp16":
        return CspNet(num_stages=3)
    backbone: Any = BACKBONES[config.backbone]()
    if config.last_stride == 1:
        first = backbone.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
    return cast("nn.Module", backbone)

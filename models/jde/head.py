"""Feature pyramid and prediction heads over any backbone (paper, Figure 2)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.jde.config import JDEConfig


class ScaleMaps(NamedTuple):
    """Raw output at one stride, before any activation.

    Attributes:
        box: `(B, A, 4, H, W)` dx, dy, dw, dh.
        score: `(B, A, S, H, W)` logits; S is 2 (background, foreground) or 1.
        embedding: `(B, D, H, W)`, one vector per cell, shared by its anchors.
    """

    box: Tensor
    score: Tensor
    embedding: Tensor


def _activation(config: JDEConfig) -> nn.Module:
    if config.activation == "silu":
        return nn.SiLU(inplace=True)
    return nn.LeakyReLU(0.1, inplace=True)


def conv_bn(config: JDEConfig, inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch norm, the configuration's activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        _activation(config),
    )


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions and their input added."""

    def __init__(self, config: JDEConfig, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            conv_bn(config, channels, channels, 3), conv_bn(config, channels, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = x + self.convolutions(x)
        return out


def _trunk(config: JDEConfig, inputs: int, channels: int, depth: int) -> nn.Sequential:
    if config.neck_block == "residual":
        units = (ResidualUnit(config, channels) for _ in range(depth))
        return nn.Sequential(conv_bn(config, inputs, channels, 1), *units)
    wide = 2 * channels
    return nn.Sequential(
        conv_bn(config, inputs, channels, 1),
        conv_bn(config, channels, wide, 3),
        conv_bn(config, wide, channels, 1),
        conv_bn(config, channels, wide, 3),
        conv_bn(config, wide, channels, 1),
    )


class FeaturePyramid(nn.Module):
    """Upsamples coarse features and joins them to finer ones, twice."""

    def __init__(self, config: JDEConfig, backbone_channels: tuple[int, int, int]) -> None:
        super().__init__()
        widths = config.neck_channels
        taps = backbone_channels[::-1]
        inputs = (taps[0], widths[1] + taps[1], widths[2] + taps[2])
        self.trunks = nn.ModuleList(
            _trunk(config, *sizes) for sizes in zip(inputs, widths, config.neck_depth, strict=True)
        )
        self.reduce = nn.ModuleList(
            conv_bn(config, coarse, fine, 1) for coarse, fine in pairwise(widths)
        )

    def forward(self, c8: Tensor, c16: Tensor, c32: Tensor) -> list[Tensor]:
        """Features at strides 32, 16, 8 with `neck_channels` channels."""
        outputs = [self.trunks[0](c32)]
        for trunk, reduce, tap in zip(list(self.trunks)[1:], self.reduce, (c16, c8), strict=True):
            coarse = F.interpolate(reduce(outputs[-1]), scale_factor=2.0, mode="nearest")
            outputs.append(trunk(torch.cat((coarse, tap), 1)))
        return outputs


class PredictionHead(nn.Module):
    """Box, score and embedding maps from one scale of the pyramid."""

    def __init__(self, config: JDEConfig, channels: int) -> None:
        super().__init__()
        self.num_anchors = config.num_anchors
        self.box_hidden = conv_bn(config, channels, channels * config.head_expansion, 3)
        outputs = self.num_anchors * (4 + config.score_channels)
        self.box = nn.Conv2d(channels * config.head_expansion, outputs, 1)
        self.embedding_hidden = (
            conv_bn(config, channels, channels, 3) if config.embedding_hidden else nn.Identity()
        )
        self.embedding = nn.Conv2d(channels, config.embedding_dim, 3, padding=1)
        # start with a probability of 1 % in every cell. A network that is about to be loaded has
        # no numbers yet (`meta`); torch would import its compiler, which takes seconds, for them
        if config.score == "sigmoid" and not self.box.weight.is_meta:
            nn.init.normal_(self.box.weight, std=0.01)
            nn.init.zeros_(self.box.bias)  # type: ignore[arg-type]
            bias = self.box.bias.detach().view(self.num_anchors, -1)  # type: ignore[union-attr]
            bias[:, 4] = -math.log(99.0)

    def forward(self, features: Tensor) -> ScaleMaps:
        """Maps of `(B, C, H, W)` features; channels are anchor-major as in published files."""
        hidden = self.box_hidden(features)
        raw = self.box(hidden.to(self.box.weight.dtype))  # float32 where the rest is bfloat16
        raw = raw.unflatten(1, (self.num_anchors, -1))
        embedding = self.embedding(self.embedding_hidden(features))
        return ScaleMaps(raw[:, :, :4], raw[:, :, 4:], embedding)

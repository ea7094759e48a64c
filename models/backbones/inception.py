"""Inception with batch norm (BN-Inception), up to its last map.

Ioffe and Szegedy, "Batch Normalization" (2015), in the channels of its public descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Block:
    """Channels of an inception block.

    Attributes:
        single: Of the 1x1 branch; 0 leaves it out, and the block halves its map.
        triple: Of the 3x3 branch: reduced, out.
        double: Of the branch with two 3x3 convolutions: reduced, between, out.
        pool: Kind of pooling, and channels of its projection; 0 passes the pooled input on.
    """

    single: int
    triple: tuple[int, int]
    double: tuple[int, int, int]
    pool: tuple[Literal["mean", "max"], int]

    def outputs(self, inputs: int) -> int:
        """Channels out."""
        return self.single + self.triple[1] + self.double[2] + (self.pool[1] or inputs)


BLOCKS = (
    Block(64, (64, 64), (64, 96, 96), ("mean", 32)),  # 3a
    Block(64, (64, 96), (64, 96, 96), ("mean", 64)),
    Block(0, (128, 160), (64, 96, 96), ("max", 0)),
    Block(224, (64, 96), (96, 128, 128), ("mean", 128)),  # 4a
    Block(192, (96, 128), (96, 128, 128), ("mean", 128)),
    Block(160, (128, 160), (128, 160, 160), ("mean", 96)),
    Block(96, (128, 192), (160, 192, 192), ("mean", 96)),
    Block(0, (128, 192), (192, 256, 256), ("max", 0)),
    Block(352, (192, 320), (160, 224, 224), ("mean", 128)),  # 5a
    Block(352, (192, 320), (192, 224, 224), ("max", 128)),
)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class InceptionBlock(nn.Module):
    """Branches of several receptive fields, joined.

    Args:
        inputs: Channels in.
        block: Channels of the branches.
    """

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        self.stride = 1 if block.single else 2
        reduced, out = block.triple
        first, between, last = block.double
        branches = [
            nn.Sequential(
                convolution(inputs, reduced, 1), convolution(reduced, out, 3, self.stride)
            ),
            nn.Sequential(
                convolution(inputs, first, 1),
                convolution(first, between, 3),
                convolution(between, last, 3, self.stride),
            ),
        ]
        if block.single:
            branches.insert(0, convolution(inputs, block.single, 1))
        self.branches = nn.ModuleList(branches)
        self.pooling, width = block.pool
        self.project = convolution(inputs, width, 1) if width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the channels of `Block.outputs`, halved where the block says so."""
        if self.stride == 2:
            pooled = F.max_pool2d(x, 3, 2, ceil_mode=True)
        elif self.pooling == "max":
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.avg_pool2d(x, 3, 1, 1)
        return torch.cat([*(branch(x) for branch in self.branches), self.project(pooled)], 1)


class Inception(nn.Module):
    """`(B, 3, H, W)` to one map of 1,024 channels at stride 32."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = convolution(3, 64, 7, 2)
        self.stem = nn.Sequential(convolution(64, 64, 1), convolution(64, 192, 3))
        channels, blocks = 192, []
        for block in BLOCKS:
            blocks.append(InceptionBlock(channels, block))
            channels = block.outputs(channels)
        self.blocks = nn.Sequential(*blocks)
        self.channels = (channels,)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The last map."""
        x = F.max_pool2d(self.enter(images), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.stem(x), 3, 2, ceil_mode=True)
        return (self.blocks(x),)

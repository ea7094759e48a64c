"""CSP network: 2.9 M parameters of dense convolutions, the small model's backbone.

With twice the width it has 11.6 M and is the backbone of `base`, which starts from the small one's
weights (`models.jde.widening`).

Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN" (2020), in the
arrangement of the NanoDet-g detector, whose published weights therefore fit. Their batch norms are
folded into the convolutions, so a convolution here has a bias and no norm: this network is meant
to start from such weights, not to be trained from scratch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jde_ray.models.backbones.pixels import normalise
from jde_ray.models.backbones.resnet import MEAN, STD

STEM = 32  # channels
STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))  # channels, units, stride


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution with bias, leaky ReLU of slope 0.1."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.1, inplace=True))


class CspUnit(nn.Module):
    """Halve the channels, convolve them, and return both halves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = convolution(channels, channels // 2)
        self.expand = convolution(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        half = self.reduce(x)
        return torch.cat((self.expand(half), half), 1)


class CspStage(nn.Module):
    """A convolution whose output is concatenated with itself after `units` units."""

    def __init__(self, channels: int, units: int, stride: int) -> None:
        super().__init__()
        self.enter = convolution(channels, channels, stride)
        self.units = nn.Sequential(*(CspUnit(channels) for _ in range(units)))
        self.leave = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, 2 C, H / stride, W / stride)`."""
        entered = self.enter(x)
        return torch.cat((self.leave(self.units(entered)), entered), 1)


class CspNet(nn.Module):
    """`(B, 3, H, W)` to features of 128, 256 and 512 channels at strides 8, 16 and 32.

    Args:
        width: Factor of all channels.
        num_stages: 4, or 3 to leave out the last one, which has 2.5 of the 2.9 M parameters.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 1, num_stages: int = len(STAGES)) -> None:
        super().__init__()
        stages = [(channels * width, units, stride) for channels, units, stride in STAGES]
        stages = stages[:num_stages]
        self.channels = tuple(2 * channels for channels, _, _ in stages[1:])
        self.stem = convolution(3, STEM * width, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList(CspStage(*stage) for stage in stages)
        for name, values in (("mean", MEAN), ("std", STD)):
            # weight files do not hold these, so they must not be on the meta device
            value = torch.tensor(values, device="cpu").view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features at strides 8, 16 (and 32) of `(B, 3, H, W)` RGB images in [0, 1]."""
        x = self.maxpool(self.stem(normalise(images, self.mean, self.std)))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs[1:])

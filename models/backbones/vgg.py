"""VGG-16, the backbone of the detectors that the paper's Table 3 compares with.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015).
Modules are numbered as in torchvision's files, which load unchanged.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from jde_ray.models.backbones.pixels import normalise
from jde_ray.models.backbones.resnet import MEAN, STD

GROUPS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, 3x3 convolutions


class Vgg16(nn.Module):
    """`(B, 3, H, W)` to features of 512 channels at stride 16: 14.7 M parameters.

    The last pooling of the published network, to stride 32, is left out, as detectors do.
    """

    channels = (512,)
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        self.group_starts: list[int] = []
        for outputs, count in GROUPS:
            if layers:
                layers.append(nn.MaxPool2d(2, 2))
            self.group_starts.append(len(layers))
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        for name, values in (("mean", MEAN), ("std", STD)):
            # weight files do not hold these, so they must not be on the meta device
            value = torch.tensor(values, device="cpu").view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def groups(self) -> list[nn.Module]:
        """The five groups of convolutions, first to last."""
        limits = [*self.group_starts, len(self.features)]
        return [self.features[a:b] for a, b in pairwise(limits)]

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Features at stride 16 of `(B, 3, H, W)` RGB images in [0, 1]."""
        return (self.features(normalise(images, self.mean, self.std)),)

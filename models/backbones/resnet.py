"""ResNet-50 and ResNet-101, the paper's other backbones beside Darknet-53.

He et al., "Deep Residual Learning for Image Recognition" (2016), with the stride on the 3x3
convolution of a unit. Modules are named as in torchvision's files, which load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.backbones.pixels import normalise

# Such files were trained on images normalised like this; the network's own input is RGB in [0, 1].
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXPANSION = 4


class FrozenNorm(nn.Module):
    """A batch norm whose statistics, scale and shift stay as they were loaded.

    They are buffers, so no optimiser sees them and they do not count as parameters. Names are those
    of `nn.BatchNorm2d`.

    Args:
        channels: Number of channels.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((channels,), float(value)))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, False, 0.0, self.eps)


Norm = Callable[[int], nn.Module]


class Bottleneck(nn.Module):
    """1x1 to `hidden` channels, 3x3, 1x1 to `4 hidden`, and the (projected) input added."""

    def __init__(self, inputs: int, hidden: int, stride: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        outputs = hidden * EXPANSION
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = norm(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, 1, bias=False)
        self.bn2 = norm(hidden)
        self.conv3 = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs, H, W)` to `(B, 4 hidden, H / stride, W / stride)`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        result: Tensor = self.relu(out + self.downsample(x))
        return result


class ResNet(nn.Module):
    """`(B, 3, H, W)` to features of 512, 1024 and 2048 channels at strides 8, 16 and 32.

    Args:
        units: Number of bottlenecks in each of the four stages.
        norm: What follows each convolution.
    """

    channels = (512, 1024, 2048)
    mean: Tensor
    std: Tensor

    def __init__(self, units: tuple[int, int, int, int], norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(64, 64, units[0], 1, norm)
        self.layer2 = self._stage(256, 128, units[1], 2, norm)
        self.layer3 = self._stage(512, 256, units[2], 2, norm)
        self.layer4 = self._stage(1024, 512, units[3], 2, norm)
        for name, values in (("mean", MEAN), ("std", STD)):
            # weight files do not hold these, so they must not be on the meta device
            value = torch.tensor(values, device="cpu").view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    @staticmethod
    def _stage(inputs: int, hidden: int, units: int, stride: int, norm: Norm) -> nn.Sequential:
        rest = (Bottleneck(hidden * EXPANSION, hidden, 1, norm) for _ in range(units - 1))
        return nn.Sequential(Bottleneck(inputs, hidden, stride, norm), *rest)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 8, 16, 32 of `(B, 3, H, W)` RGB images in [0, 1]."""
        return self.stage_maps(images)[1:]

    def stage_maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of all four stages; at stride 4 they have 256 channels. Images as `forward`."""
        normalised = normalise(images, self.mean, self.std)
        x = self.maxpool(self.relu(self.bn1(self.conv1(normalised))))
        c4 = self.layer1(x)
        c8 = self.layer2(c4)
        c16 = self.layer3(c8)
        return c4, c8, c16, self.layer4(c16)


def resnet50(norm: Norm = nn.BatchNorm2d) -> ResNet:
    """Units 3, 4, 6, 3: 23.5 M parameters."""
    return ResNet((3, 4, 6, 3), norm)


def resnet101(norm: Norm = nn.BatchNorm2d) -> ResNet:
    """Units 3, 4, 23, 3: 42.5 M parameters."""
    return ResNet((3, 4, 23, 3), norm)

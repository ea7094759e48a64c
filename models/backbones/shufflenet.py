"""ShuffleNet V2 at half width: 0.15 M parameters, the small model's backbone.

Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design" (2018),
in the arrangement of the FastestDet detector, whose published weights therefore fit: the channel
shuffle comes first in a unit and separates even from odd channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, depthwise: bool = False
) -> list[nn.Module]:
    groups = inputs if depthwise else 1
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class ShuffleUnit(nn.Module):
    """Half of the channels pass unchanged, half are convolved; with stride 2 both are convolved."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = outputs // 2
        self.stride = stride
        self.branch_main = nn.Sequential(
            *_convolution(inputs, hidden, 1),
            nn.ReLU(inplace=True),
            *_convolution(hidden, hidden, 3, stride, depthwise=True),
            *_convolution(hidden, hidden if stride == 1 else outputs - inputs, 1),
            nn.ReLU(inplace=True),
        )
        if stride == 2:
            self.branch_proj = nn.Sequential(
                *_convolution(inputs, inputs, 3, stride, depthwise=True),
                *_convolution(inputs, inputs, 1),
                nn.ReLU(inplace=True),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        if self.stride == 2:
            return torch.cat((self.branch_proj(x), self.branch_main(x)), 1)
        return torch.cat((x[:, 0::2], self.branch_main(x[:, 1::2])), 1)


class ShuffleNetV2(nn.Module):
    """`(B, 3, H, W)` to features of 48, 96 and 192 channels at strides 8, 16 and 32."""

    channels = (48, 96, 192)

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*_convolution(3, 24, 3, 2), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2 = self._stage(24, 48, 4)
        self.stage3 = self._stage(48, 96, 8)
        self.stage4 = self._stage(96, 192, 4)

    @staticmethod
    def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
        rest = (ShuffleUnit(outputs // 2, outputs, 1) for _ in range(units - 1))
        return nn.Sequential(ShuffleUnit(inputs, outputs, 2), *rest)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 8, 16, 32 of `(B, 3, H, W)` RGB images in [0, 1]."""
        c8 = self.stage2(self.maxpool(self.first_conv(images)))
        c16 = self.stage3(c8)
        return c8, c16, self.stage4(c16)

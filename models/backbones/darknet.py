"""Darknet-53, the backbone of the published networks: 40.6 M parameters.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement" (2018): one convolution at full size, then
five stages that halve the size and add residual units. Layers 0 to 74 of a published checkpoint.
"""

from __future__ import annotations

from torch import Tensor, nn

STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # channels, residual units


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, leaky ReLU of slope 0.1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


class DarkUnit(nn.Module):
    """1x1 to half the channels, 3x3 back, the input added; no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn(channels, channels // 2, 1)
        self.expand = conv_bn(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = x + self.expand(self.reduce(x))
        return out


class DarkNet53(nn.Module):
    """`(B, 3, H, W)` to features of 256, 512 and 1024 channels at strides 8, 16 and 32."""

    channels = (256, 512, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32, 3)
        self.stages = nn.ModuleList()
        inputs = 32
        for outputs, units in STAGES:
            down = conv_bn(inputs, outputs, 3, stride=2)
            self.stages.append(nn.Sequential(down, *(DarkUnit(outputs) for _ in range(units))))
            inputs = outputs

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 8, 16, 32 of `(B, 3, H, W)` RGB images in [0, 1]."""
        x = self.stem(images)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs[2], outputs[3], outputs[4]

"""A short chain of convolutions: ours, after the description of CNNMTT's five-layer network.

Mahmoudi, Ahadi and Rahmati, "Multi-target tracking using CNN-based features: CNNMTT" (2019) gives
the number of layers; sizes and widths are our own. The fifth layer is the embedding.
"""

from __future__ import annotations

from torch import Tensor, nn

LAYERS = ((5, 32), (3, 64), (3, 128), (3, 128))  # kernel, channels


class PlainNet(nn.Module):
    """`(B, 3, H, W)` to one map of 128 channels at stride 16."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for size, outputs in LAYERS:
            layers += [
                nn.Conv2d(inputs, outputs, size, 1, size // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.channels = (inputs,)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The last map."""
        return (self.layers(images),)

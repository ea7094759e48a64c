"""The wide residual network of DeepSORT's appearance descriptor, up to its last map.

Wojke and Bewley, "Deep Cosine Metric Learning for Person Re-identification" (2018), after its
table of layers. Input is RGB in [0, 1], without normalisation.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DROPOUT = 0.4
KERNEL_DEVIATION = 1e-3  # of the truncated normal that kernels start from


class ShiftNorm(nn.BatchNorm2d):
    """Batch norm that learns a shift but no scale, as the published network has it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight.requires_grad_(False)


def start_kernels(module: nn.Module) -> None:
    """Draw all kernels and matrices from the published distribution."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            low, high = -2 * KERNEL_DEVIATION, 2 * KERNEL_DEVIATION
            nn.init.trunc_normal_(layer.weight, std=KERNEL_DEVIATION, a=low, b=high)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with norm and ELU before each, added to their input.

    Args:
        inputs: Channels in.
        outputs: Channels out; with twice the channels the map is halved.
        first: Whether it is the first unit, whose input has been normalised already.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool = False) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.enter = nn.Identity() if first else nn.Sequential(ShiftNorm(inputs), nn.ELU())
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            ShiftNorm(outputs),
            nn.ELU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(outputs, outputs, 3, 1, 1),
        )
        self.project = (
            nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        changed: Tensor = self.body(self.enter(x)) + self.project(x)
        return changed


class WideResidualNet(nn.Module):
    """`(B, 3, H, W)` to one map of stride 8 with four times the width.

    Args:
        width: Channels of the first layers; 32 in the published network.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.channels = (4 * width,)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False),
            ShiftNorm(width),
            nn.ELU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            ShiftNorm(width),
            nn.ELU(),
        )
        self.units = nn.Sequential(
            ResidualUnit(width, width, first=True),
            ResidualUnit(width, width),
            ResidualUnit(width, 2 * width),
            ResidualUnit(2 * width, 2 * width),
            ResidualUnit(2 * width, 4 * width),
            ResidualUnit(4 * width, 4 * width),
        )
        start_kernels(self)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The last map."""
        return (self.units(F.max_pool2d(self.stem(images), 3, 2, 1)),)

"""From pictures to the feature maps that both stages read: a backbone and its pyramid."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.backbones.csp import CspNet
from jde_ray.models.backbones.resnet import FrozenNorm, resnet50, resnet101
from jde_ray.models.backbones.vgg import Vgg16
from jde_ray.models.rcnn.config import RcnnConfig


def build_backbone(config: RcnnConfig) -> nn.Module:
    """The backbone, its first groups frozen; all norms of a ResNet are."""
    backbone: Any
    if config.backbone in ("resnet50", "resnet101"):
        build = resnet50 if config.backbone == "resnet50" else resnet101
        backbone = build(FrozenNorm)
        stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
        groups = [backbone.conv1, *stages]
    elif config.backbone == "vgg16":
        backbone = Vgg16()
        groups = backbone.groups()
    else:
        backbone = CspNet(num_stages=3 if config.backbone == "csp16" else 4)
        groups = [backbone.stem, *backbone.stages]
    for group in groups[: config.frozen_groups]:
        group.requires_grad_(False)
    return backbone  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Lin et al. (2017): coarse maps added to finer ones, a 3x3 convolution on each sum.

    Args:
        inputs: Channels of the maps, fine to coarse.
        channels: Channels of all outputs.
    """

    def __init__(self, inputs: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(number, channels, 1) for number in inputs)
        self.outer = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        for layer in (*self.inner, *self.outer):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """One map per input, fine to coarse, and the coarsest one at every second cell."""
        sums = [layer(one) for layer, one in zip(self.inner, maps, strict=True)]
        for level in reversed(range(len(sums) - 1)):
            coarse = F.interpolate(sums[level + 1], size=sums[level].shape[2:], mode="nearest")
            sums[level] = sums[level] + coarse
        outputs = [layer(one) for layer, one in zip(self.outer, sums, strict=True)]
        return [*outputs, F.max_pool2d(outputs[-1], 1, 2)]


class Trunk(nn.Module):
    """Backbone and pyramid, or the backbone's last map alone.

    Attributes:
        channels: Channels of every map.
    """

    def __init__(self, config: RcnnConfig) -> None:
        super().__init__()
        self.backbone: Any = build_backbone(config)
        channels = cast("tuple[int, ...]", self.backbone.channels)
        self.reads_four = config.backbone.startswith("resnet")
        if self.reads_four:
            channels = (256, *channels)
        self.pyramid: Pyramid | None = None
        if config.pyramid_channels:
            self.pyramid = Pyramid(channels, config.pyramid_channels)
        self.channels: int = config.pyramid_channels or channels[-1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at the configuration's `strides` of `(B, 3, H, W)` RGB images in [0, 1]."""
        maps = self.backbone.stage_maps(images) if self.reads_four else self.backbone(images)
        return self.pyramid(maps) if self.pyramid is not None else [maps[-1]]

"""Feature extractors.

Each is a module `images (B, 3, H, W) -> (c8, c16, c32)` at strides 8, 16 and 32; its attribute
`channels` holds their widths in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from jde_ray.models.backbones.csp import CspNet
from jde_ray.models.backbones.darknet import DarkNet53
from jde_ray.models.backbones.resnet import resnet50, resnet101
from jde_ray.models.backbones.shufflenet import ShuffleNetV2

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "csp": CspNet,
    "csp-wide": partial(CspNet, width=2),
    "shufflenet": ShuffleNetV2,
    "darknet53": DarkNet53,
    "resnet50": resnet50,
    "resnet101": resnet101,
}

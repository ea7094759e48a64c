"""Two-stage networks of random weights that propose, and find, as many boxes as wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from jde_ray.models.rcnn import weights
from jde_ray.models.rcnn.config import CONFIGURATIONS
from jde_ray.models.rcnn.network import RcnnNet

SIZE = (96, 64)


def network(name: str = "frcnn-small", size: tuple[int, int] = SIZE) -> RcnnNet:
    """Its scores differ, other than those of untrained networks, which are all about a half."""
    torch.manual_seed(0)
    own = CONFIGURATIONS[name]
    config = replace(own, size=size, level_proposals=(40, 12), proposals=(60, 20))
    model = RcnnNet(config).eval()
    torch.nn.init.normal_(model.rpn.score.weight, std=0.3)
    for head in model.stages:
        torch.nn.init.normal_(head.score.weight, std=0.5)
        torch.nn.init.normal_(head.box.weight, std=0.05)
    return model


def write(folder: Path, name: str = "frcnn-small", size: tuple[int, int] = SIZE) -> Path:
    """Its weight file."""
    path = folder / f"{name}.safetensors"
    weights.save(network(name, size), path, {"licence": "test only"})
    return path

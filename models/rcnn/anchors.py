"""Anchors, and the code of boxes as offsets from other boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jde_ray.models.losses import box_coding
from jde_ray.models.rcnn.config import RcnnConfig

LARGEST_GROWTH = math.log(1000 / 16)  # dw and dh are cut off here: 62 times as large


def cell_anchors(sizes: tuple[float, ...], aspects: tuple[float, ...]) -> Tensor:
    """`(A, 4)` corners of a cell's anchors around 0, those of an aspect together.

    They are rounded to whole pixels, as in torchvision, whose weights expect that.
    """
    size = torch.tensor(sizes)[None]
    root = torch.tensor(aspects).sqrt()[:, None]
    width, height = (size / root).flatten(), (size * root).flatten()
    return torch.stack((-width, -height, width, height), 1).div(2).round()


def anchors_of(config: RcnnConfig, shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """`(N, 4)` corners in network pixels of all anchors, by stride, row, column, anchor.

    Args:
        config: Sizes and aspects.
        shapes: Height and width in cells of the map at each stride.
        device: Where they are wanted.
    """
    found = []
    for stride, sizes, (height, width) in zip(
        config.strides, config.anchor_sizes, shapes, strict=True
    ):
        y, x = torch.meshgrid(
            torch.arange(height, device=device) * stride,
            torch.arange(width, device=device) * stride,
            indexing="ij",
        )
        corners = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
        found.append((corners + cell_anchors(sizes, config.aspects).to(device)).reshape(-1, 4))
    return torch.cat(found)


def encode(tlbr: Tensor, anchors: Tensor, deviations: tuple[float, ...] | None = None) -> Tensor:
    """`(N, 4)` offsets from anchors to boxes, both `(N, 4)` corners, over their deviations."""
    size = anchors[:, 2:] - anchors[:, :2]
    offsets = box_coding.encode(tlbr, size, (anchors[:, 2:] + anchors[:, :2]) / 2)
    return offsets if deviations is None else offsets / offsets.new_tensor(deviations)


def decode(
    offsets: Tensor,
    anchors: Tensor,
    size: tuple[int, int],
    deviations: tuple[float, ...] | None = None,
) -> Tensor:
    """`(..., 4)` corners from offsets and anchors of that shape, cut off at the picture's border.

    Args:
        offsets: dx, dy, dw, dh over their deviations.
        anchors: Corners in network pixels.
        size: Width and height of the picture.
        deviations: Those that `encode` was given.
    """
    offsets = offsets.float()
    if deviations is not None:
        offsets = offsets * offsets.new_tensor(deviations)
    offsets = torch.cat((offsets[..., :2], offsets[..., 2:].clamp(max=LARGEST_GROWTH)), -1)
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = (anchors[..., 2:] + anchors[..., :2]) / 2
    box = box_coding.decode(offsets, sides, centres)
    half = box[..., 2:] / 2
    width, height = size
    low, high = (box[..., :2] - half).clamp(min=0), (box[..., :2] + half).clamp(min=0)
    limit = box.new_tensor((width, height))
    return torch.cat((low.minimum(limit), high.minimum(limit)), -1)

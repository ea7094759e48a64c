"""Features of boxes: RoIAlign and RoI max pooling in torch's own operations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jde_ray.models.rcnn.config import RcnnConfig

BINS = 7  # of a box in each direction
POINTS = 2  # of a bin in each direction


def levels_of(config: RcnnConfig, tlbr: Tensor) -> Tensor:
    """`(R,)` the map that each of `(R, 4)` boxes in network pixels is read from, by its area."""
    strides = config.roi_strides
    root = (tlbr[:, 2:] - tlbr[:, :2]).clamp(min=1e-6).prod(1).sqrt()
    level = torch.log2(root / (config.roi_cells * strides[0]) + 1e-6).floor()
    return level.clamp(0, len(strides) - 1).long()


def pool(config: RcnnConfig, maps: list[Tensor], image: Tensor, tlbr: Tensor) -> Tensor:
    """Features of boxes, each from the map that fits its size.

    Args:
        config: How boxes are pooled.
        maps: `(B, C, H, W)` at the strides that boxes are read from, or at more of them.
        image: `(R,)` index of each box's picture.
        tlbr: `(R, 4)` corners in network pixels.

    Returns:
        `(R, C, 7, 7)`.
    """
    strides = config.roi_strides
    maps = maps[: len(strides)]
    if config.roi == "max":
        return max_pool(maps[0], image, tlbr / strides[0])
    level = levels_of(config, tlbr)
    scale = tlbr.new_tensor(strides)[level][:, None]
    return align(maps, level, image, tlbr / scale, 0.5 if config.half_pixel else 0.0)


def align(
    maps: list[Tensor], level: Tensor, image: Tensor, tlbr: Tensor, shift: float = 0.5
) -> Tensor:
    """Mean of 2 x 2 bilinear samples in each of 7 x 7 bins (He et al., "Mask R-CNN", 2017).

    All boxes are read at once: a bin is a weighted sum of 16 cells, which `embedding_bag` computes
    without storing the samples. On a CPU `grid_sample` took ten to twenty times as long, for the
    same numbers. Samples beyond the outermost cells' centres take the value there.

    Args:
        maps: `(B, C, H, W)` of several sizes.
        level: `(R,)` index of each box's map.
        image: `(R,)` index of each box's picture.
        tlbr: `(R, 4)` corners in cells of that map.
        shift: Position of a cell's centre in it: .5, or 0 as older networks were trained.

    Returns:
        `(R, C, 7, 7)` float32, or float64 if the maps are.
    """
    kind = torch.float64 if maps[0].dtype == torch.float64 else torch.float32
    cells = torch.cat([m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in maps]).to(kind)
    sizes = torch.tensor([(m.shape[3], m.shape[2]) for m in maps], device=tlbr.device)
    counts = sizes.prod(1) * maps[0].shape[0]
    size = sizes[level]
    start = (counts.cumsum(0) - counts)[level] + image * size.prod(1)
    tlbr = tlbr.to(kind)
    side = tlbr[:, 2:] - tlbr[:, :2]
    if not shift:
        side = side.clamp(min=1)  # as in those networks
    steps = (torch.arange(BINS * POINTS, device=tlbr.device, dtype=kind) + 0.5) / (BINS * POINTS)
    places = tlbr[:, None, :2] + steps[:, None] * side[:, None] - shift  # (R, 14, 2)
    last = size[:, None] - 1
    places = places.clamp(min=0).minimum(last.to(kind))
    low = places.floor()
    part = places - low
    lower = low.long()
    index = torch.stack((lower, (lower + 1).minimum(last)), 2)  # (R, 14, 2 cells, 2 axes)
    share = torch.stack((1 - part, part), 2) / POINTS
    across = 2 * POINTS
    index, share = (t.view(-1, BINS, across, 2) for t in (index, share))
    x, y = index[..., 0], index[..., 1]
    row = start.view(-1, 1, 1) + y * size[:, :1, None]
    rows = row[:, :, None, :, None] + x[:, None, :, None, :]
    weight = share[:, :, None, :, None, 1] * share[:, None, :, None, :, 0]
    bags = rows.reshape(-1, across * across)
    pooled = F.embedding_bag(bags, cells, per_sample_weights=weight.view_as(bags), mode="sum")
    return pooled.view(-1, BINS, BINS, cells.shape[1]).permute(0, 3, 1, 2)


def max_pool(maps: Tensor, image: Tensor, tlbr: Tensor) -> Tensor:
    """Maximum of the cells in each of 7 x 7 bins (Girshick, "Fast R-CNN", 2015).

    Corners are rounded to whole cells, both of which belong to the box; a bin reaches from the
    floor of its share to the ceiling, so neighbours may have cells in common.

    Args:
        maps: `(B, C, H, W)`.
        image: `(R,)` index of each box's picture.
        tlbr: `(R, 4)` corners in cells.

    Returns:
        `(R, C, 7, 7)`.
    """
    last = tlbr.new_tensor((maps.shape[3] - 1, maps.shape[2] - 1) * 2)
    corners = (tlbr + 0.5).floor().clamp(min=0).minimum(last).long()
    rows = torch.cat((image[:, None], corners), 1).tolist()
    pooled = [
        F.adaptive_max_pool2d(maps[one, :, top : bottom + 1, left : right + 1], BINS)
        for one, left, top, right, bottom in rows
    ]
    return torch.stack(pooled) if pooled else maps.new_zeros(0, maps.shape[1], BINS, BINS)

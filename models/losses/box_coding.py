"""Box coding: conversion between boxes and the offsets from an anchor that a box head predicts.

Girshick et al., "Rich feature hierarchies for accurate object detection" (2014), appendix C:
`dx = (gx - ax) / aw`, `dw = ln(gw / aw)`, and the same for y and h.
"""

from __future__ import annotations

import torch
from torch import Tensor


def encode(tlbr: Tensor, anchors: Tensor, centres: Tensor) -> Tensor:
    """Offsets from anchors to boxes; the inverse of `decode`.

    Args:
        tlbr: `(F, 4)` corners in pixels.
        anchors: `(F, 2)` width and height of the anchors in pixels.
        centres: `(F, 2)` x and y of the anchors in pixels.

    Returns:
        `(F, 4)` dx, dy, dw, dh.
    """
    size = tlbr[:, 2:] - tlbr[:, :2]
    middle = (tlbr[:, 2:] + tlbr[:, :2]) / 2
    return torch.cat(((middle - centres) / anchors, torch.log(size / anchors)), 1)


def decode(offsets: Tensor, anchors: Tensor, centres: Tensor, dim: int = -1) -> Tensor:
    """Boxes from offsets; the inverse of `encode`.

    Args:
        offsets: dx, dy, dw, dh along `dim`.
        anchors: Width and height of the anchors in pixels along `dim`, broadcast to `offsets`.
        centres: x and y of the anchors in pixels along `dim`, broadcast to `offsets`.
        dim: Dimension that holds the four numbers.

    Returns:
        cx, cy, w, h in pixels along `dim`, in the shape of `offsets`.
    """
    xy = centres + anchors * offsets.narrow(dim, 0, 2)
    wh = anchors * torch.exp(offsets.narrow(dim, 2, 2))
    return torch.cat((xy, wh), dim)

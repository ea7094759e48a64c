"""Task-aligned assignment of people to cells.

Feng et al., "TOOD: Task-aligned One-stage Object Detection" (2021), in the form that one-stage
detectors use today: cells inside a box are its candidates; those with the best product of score
and overlap become its positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOP_CELLS = 10  # maximum positives per person
SCORE_POWER = 0.5
OVERLAP_POWER = 6.0


@dataclass(frozen=True)
class Labels:
    """Ground truth of a batch; the boxes of all images in one list.

    Attributes:
        image: `(G,)` int64 index of the image in the batch.
        tlbr: `(G, 4)` float32 corners in network pixels.
        identity: `(G,)` int64 class of the person, -1 for unknown.
        ignore: `(G,)` bool, neither a person to find nor background.
        appearance: `(G, D)` float32 unit vectors of the teacher, zeros where it has none.
        learns_detection: `(B,)` bool, false for images that only teach appearance.
    """

    image: Tensor
    tlbr: Tensor
    identity: Tensor
    ignore: Tensor
    appearance: Tensor
    learns_detection: Tensor

    def to(self, device: torch.device) -> Labels:
        """The labels on a device; the host does not wait for pinned ones."""
        return Labels(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})

    def pin_memory(self) -> Labels:
        """The labels in pinned memory."""
        return Labels(**{name: value.pin_memory() for name, value in vars(self).items()})


@dataclass(frozen=True)
class Assignment:
    """Targets of `N` candidates in each of `B` images.

    Attributes:
        label: `(B, N)` int64 row of `Labels`, -1 where the cell is not a positive.
        quality: `(B, N)` target score: 0 for background, else the overlap, scaled by alignment.
        counted: `(B, N)` bool, false where the score is not learned.
    """

    label: Tensor
    quality: Tensor
    counted: Tensor


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of `(..., M, 4)` with `(..., N, 4)` corners: `(..., M, N)`."""
    corner = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    size = (torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:]) - corner).clamp(min=0)
    overlap = size[..., 0] * size[..., 1]
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return overlap / (area_a[..., :, None] + area_b[..., None, :] - overlap).clamp(min=1e-9)


def _inside(centres: Tensor, tlbr: Tensor) -> Tensor:
    """`(G, N)` whether centre `(N, 2)` lies in box `(G, 4)`."""
    after = (centres[None] > tlbr[:, None, :2]).all(2)
    return after & (centres[None] < tlbr[:, None, 2:]).all(2)


@torch.no_grad()
def assign(tlbr: Tensor, scores: Tensor, centres: Tensor, labels: Labels) -> Assignment:
    """Choose the positives, their target scores, and the cells that do not learn.

    People of all images are handled at once: on a GPU one small operation per person and image
    would take longer than the network.

    Args:
        tlbr: `(B, N, 4)` predicted corners in network pixels.
        scores: `(B, N)` predicted scores in [0, 1].
        centres: `(N, 2)` centres of the candidates' cells in network pixels.
        labels: Ground truth.
    """
    batch, count = scores.shape
    hidden = _inside(centres, labels.tlbr[labels.ignore])
    of_hidden = labels.image[labels.ignore][:, None].expand_as(hidden)
    ignored = torch.zeros(batch, count, dtype=torch.int8, device=scores.device)
    ignored.scatter_reduce_(0, of_hidden, hidden.to(torch.int8), "amax")
    learns = labels.learns_detection[:, None].expand(batch, count)

    rows = torch.nonzero(~labels.ignore).squeeze(1)
    image = labels.image[rows]
    of_image = image[:, None].expand(len(rows), count)
    overlap = pair_iou(labels.tlbr[rows][:, None], tlbr[image])[:, 0]
    inside = _inside(centres, labels.tlbr[rows])
    alignment = scores[image].pow(SCORE_POWER) * overlap.pow(OVERLAP_POWER) * inside
    best, cells = alignment.topk(min(TOP_CELLS, count), dim=1)
    chosen = torch.zeros_like(inside).scatter_(1, cells, best > 1e-12)
    # a cell chosen by several people goes to the one whose box it overlaps most, then to the first
    wanted = overlap * chosen
    most = torch.zeros_like(scores).scatter_reduce_(0, of_image, wanted, "amax")
    wins = chosen & (wanted == most[image])
    first = torch.full((batch, count), len(rows), dtype=torch.int64, device=scores.device)
    order = torch.arange(len(rows), device=scores.device)[:, None]
    candidate = torch.where(wins, order, len(rows))
    first.scatter_reduce_(0, of_image, candidate, "amin")
    positive = first < len(rows)
    mine = wins & (first[image] == order)
    strongest = (alignment * mine).amax(1, keepdim=True).clamp(min=1e-12)
    widest = (overlap * mine).amax(1, keepdim=True)
    quality = torch.zeros_like(scores)
    quality.scatter_reduce_(0, of_image, alignment / strongest * widest * mine, "amax")
    padded = torch.cat((rows, rows.new_full((1,), -1)))
    return Assignment(padded[first], quality, learns & ((ignored == 0) | positive))

"""Sets of pictures of one person: how good each picture is, and the feature of them all.

Liu, Yan and Ouyang, "Quality Aware Network for Set to Set Recognition" (2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QualityBranch(nn.Module):
    """The quality of a picture, from the picture itself. All are equal before it has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(64, 64, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, 1, 1),
            nn.ReLU(inplace=True),
        )
        self.last = nn.Linear(64, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """`(B,)` qualities in (0, 1) of `(B, 3, H, W)` crops in [0, 1]."""
        logits: Tensor = self.last(self.layers(crops).mean((2, 3)))
        return logits[:, 0].float().sigmoid()


def set_features(vectors: Tensor, quality: Tensor, sets: Tensor, number: int) -> Tensor:
    """Unit feature of each set: the mean of its pictures' vectors, weighted by quality.

    Args:
        vectors: `(N, D)` vectors of pictures.
        quality: `(N,)` qualities, 0 or more; a picture of quality 0 has no effect.
        sets: `(N,)` set of each picture, from 0.
        number: S, the number of sets.

    Returns:
        `(S, D)` of length 1; zeros for a set without a picture of any quality.
    """
    sums = vectors.new_zeros(number, vectors.shape[1])
    sums = sums.index_add(0, sets, vectors * quality[:, None].to(vectors.dtype))
    return F.normalize(sums, dim=1)


def halves(identity: Tensor) -> tuple[Tensor, Tensor]:
    """Split the pictures of each person in two sets, in the order in which they come.

    Args:
        identity: `(N,)` people, all known.

    Returns:
        `(N,)` set of each picture, from 0, and the `(S,)` person of each set. A person with a
        single picture has one set.
    """
    people, inverse, counts = torch.unique(identity, return_inverse=True, return_counts=True)
    order = torch.argsort(inverse, stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(inverse)
    rank[order] = torch.arange(len(identity), device=identity.device) - first[inverse[order]]
    half = (2 * rank >= counts[inverse]) & (counts[inverse] > 1)
    pairs, sets = torch.unique(2 * inverse + half, return_inverse=True)
    return sets, people[pairs // 2]


def ellipse(height: int, width: int, device: torch.device) -> Tensor:
    """`(height, width)` prior of a person's mask in its box, in [0, 1].

    It stands in for a mask where none is labelled, as in the pasted people of the training.
    """
    y = (torch.arange(height, device=device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=device) + 0.5) / width * 2 - 1
    radius = x[None] ** 2 + y[:, None] ** 4
    return ((1.25 - radius) / 0.35).clamp(0, 1)


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """`(B, C)` means of `(B, C, H, W)` where the mask is above .5, or everywhere if it never is.

    Zhou et al., "Online Multi-Target Tracking with Tensor-Based High-Order Graph Matching" (2018):
    features of a person's region only.

    Args:
        features: Maps of crops.
        mask: `(H, W)` for all crops, or `(B, H, W)`, in [0, 1].
    """
    inside = (mask > 0.5).to(features.dtype).reshape(-1, *mask.shape[-2:])
    is_empty = inside.sum((1, 2), keepdim=True) == 0
    inside = torch.where(is_empty, torch.ones_like(inside), inside)
    summed = (features * inside[:, None]).sum((2, 3))
    return summed / inside.sum((1, 2))[:, None]

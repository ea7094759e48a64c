"""The paper's three losses of the appearance embedding (equations 1 to 4), and a fourth.

Embeddings are normalised first. The paper's formulas use plain products `f . g`, whose softmax over
unit vectors is too flat to learn from. The published code multiplies the products of equation 4 by
an embedding scale; here all three losses do. The fourth is that of Xiao et al., "Joint Detection
and Identification Feature Learning for Person Search" (2017), for two-stage networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.losses.config import EMBEDDING_LOSSES, check_margin


def embedding_scale(num_identities: int) -> float:
    """The published code's `sqrt(2) ln(K - 1)` for K identities, with K at least 3."""
    return math.sqrt(2) * math.log(max(3, num_identities) - 1)


def _margins(embedding: Tensor, identity: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Margins that equations 1 and 2 compare; every embedding is the anchor of one row.

    Returns:
        `(N, N)` values of `f . f_i - f . f+`, where `f+` is the hardest positive, the one with the
        smallest product; `(N, N)` bool, true where `f_i` is a negative; `(N,)` bool, true where the
        anchor has a positive.
    """
    similarity = scale * embedding @ embedding.T
    same = identity[:, None] == identity[None]
    positive = same & ~torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    hardest = similarity.masked_fill(~positive, math.inf).amin(1)
    has_positive = positive.any(1)
    margin = similarity - torch.where(has_positive, hardest, 0.0)[:, None]
    return margin, ~same, has_positive


def triplet(embedding: Tensor, identity: Tensor, scale: float, least: float = 0.0) -> Tensor:
    """Equation 1, all negatives of the batch against the hardest positive; mean over anchors.

    The paper neglects the margin of the loss "for convenience". Without one, embeddings that are
    almost equal cost nothing as long as they are in the right order.

    Args:
        embedding: `(N, D)`, L2-normalised.
        identity: `(N,)`, all known.
        scale: Factor of the products.
        least: Margin by which the positive's cosine must exceed each negative's; 0 for the equation
            as printed.

    Returns:
        A scalar, 0 where no identity occurs twice.
    """
    if not len(identity):
        return embedding.sum() * 0
    margin, negative, valid = _margins(embedding, identity, scale)
    per_anchor = ((margin + scale * least).clamp(min=0) * negative).sum(1)
    return (per_anchor * valid).sum() / valid.sum().clamp(min=1)


def upper_bound(embedding: Tensor, identity: Tensor, scale: float) -> Tensor:
    """Equation 2, the smooth upper bound of `triplet`, with its arguments and result."""
    if not len(identity):
        return embedding.sum() * 0
    margin, negative, valid = _margins(embedding, identity, scale)
    zero = margin.new_zeros(len(margin), 1)  # the formula's 1 = exp(0)
    per_anchor = torch.cat((zero, margin.masked_fill(~negative, -math.inf)), 1).logsumexp(1)
    return (per_anchor * valid).sum() / valid.sum().clamp(min=1)


class OnlineInstanceMatching(nn.Module):
    """A softmax over the mean looks of all people, which follow the embeddings without a gradient.

    Each person has a unit vector V, at first 0. The logits are `V . f / 0.1`; after each step V
    moves half the way to the mean of its person's embeddings in the batch, and is normalised. The
    queue of unknown people of the paper is left out.

    Args:
        width: D, length of an embedding.
        num_identities: Number of people.
    """

    looks: Tensor
    temperature = 0.1
    momentum = 0.5

    def __init__(self, width: int, num_identities: int) -> None:
        super().__init__()
        self.register_buffer("looks", torch.zeros(max(1, num_identities), width))

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """Loss of `(N, D)` normalised embeddings with `(N,)` known identities; 0 without any."""
        looks = self.looks.clone() if self.training else self.looks  # the graph keeps these
        logits = embedding @ looks.T / self.temperature
        if self.training:
            self._follow(embedding.detach(), identity)
        return F.cross_entropy(logits, identity, reduction="sum") / max(1, len(identity))

    @torch.no_grad()
    def _follow(self, embedding: Tensor, identity: Tensor) -> None:
        sums = torch.zeros_like(self.looks).index_add_(0, identity, embedding.to(self.looks))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)  # as if one process had the whole batch
        seen = sums.abs().sum(1, keepdim=True) > 0
        moved = self.looks.lerp(F.normalize(sums, dim=1), self.momentum)
        self.looks.copy_(torch.where(seen, F.normalize(moved, dim=1), self.looks))


class EmbeddingLoss(nn.Module):
    """One of the losses; `cross_entropy` owns the classifier that all scales share.

    Args:
        kind: One of `EMBEDDING_LOSSES`.
        width: D, length of an embedding.
        num_identities: Number of classes; 0 for none.
        margin: The argument `least` of `triplet`; 0 for the other losses.

    Raises:
        ValueError: If the kind is unknown, or the margin does not fit it.
    """

    def __init__(self, kind: str, width: int, num_identities: int, margin: float = 0.0) -> None:
        super().__init__()
        if kind not in EMBEDDING_LOSSES:
            accepted = " | ".join(EMBEDDING_LOSSES)
            raise ValueError(f"embedding_loss: got {kind!r}, expected {accepted}")
        check_margin(kind, margin)
        self.kind, self.margin = kind, margin
        self.scale = embedding_scale(num_identities)
        if kind == "cross_entropy":
            self.classifier = nn.Linear(width, max(1, num_identities))
        if kind == "oim":
            self.matching = OnlineInstanceMatching(width, num_identities)

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """Loss of `(N, D)` normalised embeddings with `(N,)` identities, -1 for unknown.

        Without a known identity it is 0, never NaN, and still gives every parameter a gradient,
        which distributed training requires.
        """
        known = identity >= 0
        embedding, identity = embedding[known], identity[known]
        if self.kind == "triplet":
            return triplet(embedding, identity, self.scale, self.margin)
        if self.kind == "upper_bound":
            return upper_bound(embedding, identity, self.scale)
        if self.kind == "oim":
            loss: Tensor = self.matching(embedding, identity)
            return loss
        if not len(identity):
            return embedding.sum() * 0 + sum(p.sum() * 0 for p in self.classifier.parameters())
        return F.cross_entropy(self.classifier(self.scale * embedding), identity)

"""The paper's three losses of the appearance embedding (equations 1 to 4).

Embeddings are normalised first. The paper's formulas take plain products `f . g`, which for
vectors of length one are too flat to learn from; as its published code does for equation 4, all
three multiply them by an embedding scale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.losses.config import EMBEDDING_LOSSES, check_margin


def embedding_scale(num_identities: int) -> float:
    """`sqrt(2) ln(K - 1)` of the published code, at least that of three identities."""
    return math.sqrt(2) * math.log(max(3, num_identities) - 1)


def _margins(embedding: Tensor, identity: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs that equations 1 and 2 compare, with every embedding in turn as the anchor.

    Returns:
        `(N, N)` of `f . f_i - f . f+`, where `f+` is the hardest positive, that of the smallest
        product; `(N, N)` bool, true where `f_i` is a negative; `(N,)` bool, true where the anchor
        has a positive.
    """
    similarity = scale * embedding @ embedding.T
    same = identity[:, None] == identity[None]
    positive = same & ~torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    hardest = similarity.masked_fill(~positive, math.inf).amin(1)
    has_positive = positive.any(1)
    margin = similarity - torch.where(has_positive, hardest, 0.0)[:, None]
    return margin, ~same, has_positive


def triplet(embedding: Tensor, identity: Tensor, scale: float, least: float = 0.0) -> Tensor:
    """Equation 1: all negatives of the batch, its hardest positive; mean over anchors.

    The paper neglects the margin of the loss "for convenience". Without one, embeddings that lie
    nearly in one place, in the right order by a hair, cost nothing.

    Args:
        embedding: `(N, D)`, L2-normalised.
        identity: `(N,)`, all known.
        scale: Factor of the products.
        least: Margin: by how much the cosine of the positive must be larger than that of each
            negative; 0 for the equation as it is printed.

    Returns:
        A scalar, 0 where no identity occurs twice.
    """
    if not len(identity):
        return embedding.sum() * 0
    margin, negative, valid = _margins(embedding, identity, scale)
    per_anchor = ((margin + scale * least).clamp(min=0) * negative).sum(1)
    return (per_anchor * valid).sum() / valid.sum().clamp(min=1)


def upper_bound(embedding: Tensor, identity: Tensor, scale: float) -> Tensor:
    """Equation 2, the smooth upper bound of `triplet`; arguments and result as there."""
    if not len(identity):
        return embedding.sum() * 0
    margin, negative, valid = _margins(embedding, identity, scale)
    zero = margin.new_zeros(len(margin), 1)  # exp(0) = 1 of the formula
    per_anchor = torch.cat((zero, margin.masked_fill(~negative, -math.inf)), 1).logsumexp(1)
    return (per_anchor * valid).sum() / valid.sum().clamp(min=1)


class EmbeddingLoss(nn.Module):
    """One of the three losses; with `cross_entropy` it owns the classifier all scales share.

    Args:
        kind: One of `EMBEDDING_LOSSES`.
        width: D, length of an embedding.
        num_identities: Classes, 0 for none.
        margin: Of `triplet`, see there.

    Raises:
        ValueError: If the kind is another, or the margin is not for it.
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

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """Loss of `(N, D)` normalised embeddings with `(N,)` identities, -1 for unknown.

        Without a known identity it is 0, never NaN, and still reaches every parameter, which
        distributed training asks for.
        """
        known = identity >= 0
        embedding, identity = embedding[known], identity[known]
        if self.kind == "triplet":
            return triplet(embedding, identity, self.scale, self.margin)
        if self.kind == "upper_bound":
            return upper_bound(embedding, identity, self.scale)
        if not len(identity):
            return embedding.sum() * 0 + sum(p.sum() * 0 for p in self.classifier.parameters())
        return F.cross_entropy(self.classifier(self.scale * embedding), identity)

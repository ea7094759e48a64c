"""What re-identification networks learn from: identities, triplets, sets, a teacher's distances."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.losses.embedding import embedding_scale
from jde_ray.models.losses.weighting import FixedWeighting, TaskGroup
from jde_ray.models.reid.config import TASKS, LossWeights, ReidConfig
from jde_ray.models.reid.network import PartVectors, appearance
from jde_ray.models.reid.sets import halves, set_features

FACTOR_DECAY = 0.1  # of the learned factor of cosines


def batch_hard(vectors: Tensor, identity: Tensor, margin: float | None = None) -> Tensor:
    """Triplets of each crop's farthest crop of its person and nearest of another, averaged.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification" (2017).

    Args:
        vectors: `(N, D)`, of any length.
        identity: `(N,)`, all known.
        margin: Least difference of the two distances; None for `log(1 + exp(difference))`.

    Returns:
        A scalar, 0 where no crop has both another of its person and one of another person.
    """
    if not len(vectors):
        return vectors.sum() * 0
    exact = "donot_use_mm_for_euclid_dist"  # products lose small distances
    distance = torch.cdist(vectors.float(), vectors.float(), compute_mode=exact)
    same = identity[:, None] == identity[None]
    positive = same & ~torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    farthest = distance.masked_fill(~positive, -math.inf).amax(1)
    nearest = distance.masked_fill(same, math.inf).amin(1)
    usable = positive.any(1) & (~same).any(1)
    difference = torch.where(usable, farthest - nearest, 0.0)
    each = F.softplus(difference) if margin is None else F.relu(difference + margin)
    return (each * usable).sum() / usable.sum().clamp(min=1)


def teacher_distances(vectors: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines of all pairs, those of student and teacher.

    Distances are learned, not the teacher's vectors, so both may have any width.

    Args:
        vectors: `(N, D)` of length 1.
        teacher: `(N, E)` of length 1; zeros for crops that the teacher has not seen.

    Returns:
        A scalar, 0 with fewer than two crops that the teacher has seen.
    """
    known = teacher.abs().sum(1) > 0
    pairs = (known[:, None] & known[None]).fill_diagonal_(False)
    difference = vectors @ vectors.T - teacher @ teacher.T
    return (difference.pow(2) * pairs).sum() / pairs.sum().clamp(min=1)


class ReidLoss(nn.Module):
    """The weighted sum of the losses; it owns the classifiers, one a part.

    Args:
        config: The network.
        num_identities: Number of people.
        weights: Factors of the losses.

    Raises:
        ValueError: If it should learn from fewer than two people.
    """

    def __init__(self, config: ReidConfig, num_identities: int, weights: LossWeights) -> None:
        super().__init__()
        if num_identities < 2 and (weights.identity or weights.triplet):
            text = "an embedder learns from two people or more, seen twice or more"
            raise ValueError(f"identities: got {num_identities}, {text}")
        self.factors = weights
        tasks = tuple(name for name in TASKS if getattr(weights, name))
        group = TaskGroup(tasks, (0,), (False,) * len(tasks), (0.0,) * len(tasks))
        self.weighting = FixedWeighting((group,), 1.0, 1.0)
        self.weighting.weights = {name: float(getattr(weights, name)) for name in tasks}
        self.classifiers = nn.ModuleList(
            nn.Linear(config.width, num_identities, bias=False)
            for _ in range(config.stripes if weights.identity else 0)
        )
        for classifier in self.classifiers:
            nn.init.normal_(cast("Tensor", classifier.weight), std=0.001)
        if weights.sets and not config.quality:
            text = "expected a network that tells the quality of a picture"
            raise ValueError(f"losses sets: got {weights.sets} with {config.name}, {text}")
        self.scale = embedding_scale(num_identities)
        self.factor: nn.Parameter | None = None  # of cosines, before softplus makes it positive
        if weights.identity and weights.classifier == "cosine":
            self.factor = nn.Parameter(torch.zeros(()))

    def forward(
        self, found: PartVectors, identity: Tensor, teacher: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and single losses.

        Args:
            found: Output of the network for N crops.
            identity: `(N,)` people from 0, -1 for unknown.
            teacher: `(N, E)` teacher vectors of length 1, zeros for none.
        """
        factors, known = self.factors, identity >= 0
        losses: dict[str, Tensor] = {}
        if factors.identity:
            losses["identity"] = self._classify(found.vectors, identity)
        if factors.triplet:
            raw = found.raw.flatten(1)
            losses["triplet"] = batch_hard(raw[known], identity[known], factors.margin)
        if factors.teacher:
            losses["teacher"] = teacher_distances(appearance(found.vectors), teacher.float())
        if factors.sets:
            losses["sets"] = self._compare_sets(found, identity)
        return self.weighting(losses, ()), losses

    def _classify(self, vectors: Tensor, identity: Tensor) -> Tensor:
        """Cross-entropy summed over the parts, a mean over the crops of known people."""
        smoothing = self.factors.smoothing
        parts = [
            F.cross_entropy(
                self._logits(vectors[:, part], cast("nn.Linear", classifier)).float(),
                identity,
                ignore_index=-1,
                label_smoothing=smoothing,
                reduction="sum",
            )
            for part, classifier in enumerate(self.classifiers)
        ]
        mean = torch.stack(parts).sum() / (identity >= 0).sum().clamp(min=1)
        return mean if self.factor is None else mean + FACTOR_DECAY / 2 * self.factor.pow(2)

    def _logits(self, vectors: Tensor, classifier: nn.Linear) -> Tensor:
        """`(N, K)` scores of people for `(N, W)` vectors, as `LossWeights.classifier` says."""
        if self.factor is not None:
            cosines = F.linear(F.normalize(vectors, dim=1), F.normalize(classifier.weight, dim=1))
            return F.softplus(self.factor) * cosines
        if self.factors.classifier == "scaled":
            vectors = self.scale * F.normalize(vectors, dim=1)
        logits: Tensor = classifier(vectors)
        return logits

    def _compare_sets(self, found: PartVectors, identity: Tensor) -> Tensor:
        """Batch-hard triplets of two sets of pictures of each known person."""
        assert found.quality is not None  # noqa: S101 - checked at the start
        known = identity >= 0
        sets, people = halves(identity[known])
        features = set_features(
            appearance(found.vectors)[known], found.quality[known], sets, len(people)
        )
        return batch_hard(features, people, self.factors.set_margin)

"""Strategies that combine the losses of several tasks; the paper compares them in Table 2.

A group of tasks is a prediction head: its tasks read the same feature maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from jde_ray.models.losses.config import LossConfig

AVERAGE_MOMENTUM = 0.99  # momentum of the moving averages of `loss_norm`


@dataclass(frozen=True)
class TaskGroup:
    """Tasks that learn from the same features.

    Attributes:
        tasks: Names of the tasks.
        maps: Indices of the feature maps they read.
        detects: For each task, true for detection and false for appearance.
        start: For each task, the initial value of its learned uncertainty.
    """

    tasks: tuple[str, ...]
    maps: tuple[int, ...]
    detects: tuple[bool, ...]
    start: tuple[float, ...]


class Weighting(nn.Module):
    """Base of all strategies: holds the names of the tasks and the weights last used.

    Args:
        groups: All tasks.
    """

    def __init__(self, groups: Sequence[TaskGroup]) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.tasks = tuple(task for group in groups for task in group.tasks)
        self.weights: dict[str, float] = dict.fromkeys(self.tasks, 1.0)

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> Tensor:
        """The total loss.

        Args:
            losses: One scalar per task.
            features: The maps that the heads read, attached to the graph.
        """
        raise NotImplementedError

    def current_weights(self) -> dict[str, float]:
        """The factor by which each task's loss was last multiplied."""
        return dict(self.weights)

    def weighted_sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of the losses times `weights`."""
        return torch.stack([self.weights[task] * losses[task] for task in self.tasks]).sum()


class FixedWeighting(Weighting):
    """Constant weights: the paper's baselines Uniform and App. Opt.

    Args:
        groups: All tasks.
        detection: Weight of score and box losses.
        appearance: Weight of embedding losses.
    """

    def __init__(self, groups: Sequence[TaskGroup], detection: float, appearance: float) -> None:
        super().__init__(groups)
        detects = (d for group in groups for d in group.detects)
        self.weights = {
            task: detection if of_detection else appearance
            for task, of_detection in zip(self.tasks, detects, strict=True)
        }

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> Tensor:
        """See `Weighting`."""
        return self.weighted_sum(losses)


class UncertaintyWeighting(Weighting):
    """Learned task uncertainty: `sum of (exp(-s) L + s) / 2`, one s per head and task (eq. 6).

    Args:
        groups: All tasks.
        equal: Start every s at 0, so that all weights are 0.5, instead of at `TaskGroup.start`.
    """

    def __init__(self, groups: Sequence[TaskGroup], equal: bool = False) -> None:
        super().__init__(groups)
        start = [0.0 if equal else value for group in groups for value in group.start]
        self.s = nn.ParameterDict(
            {
                task: nn.Parameter(torch.tensor(float(value)))
                for task, value in zip(self.tasks, start, strict=True)
            }
        )

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> Tensor:
        """See `Weighting`; the total may be negative."""
        terms = [(torch.exp(-self.s[t]) * losses[t] + self.s[t]) / 2 for t in self.tasks]
        return torch.stack(terms).sum()

    def current_weights(self) -> dict[str, float]:
        """`exp(-s) / 2` of each task."""
        return {task: float(torch.exp(-self.s[task].detach()) / 2) for task in self.tasks}


def _in_group() -> bool:
    """Whether several trainers share each batch."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class NormalisedWeighting(Weighting):
    """Divides each loss by its moving average (the paper's Loss.Norm); ignores losses of 0.

    Several trainers follow the mean of their losses, so that all use the weights that one trainer
    would.
    """

    average: Tensor
    updates: Tensor

    def __init__(self, groups: Sequence[TaskGroup]) -> None:
        super().__init__(groups)
        self.register_buffer("average", torch.zeros(len(self.tasks)))
        self.register_buffer("updates", torch.zeros(len(self.tasks)))

    @torch.no_grad()
    def _follow(self, losses: Mapping[str, Tensor]) -> None:
        values = torch.stack([losses[t].detach() for t in self.tasks]).to(self.average)
        if _in_group():
            torch.distributed.all_reduce(values)
            values /= torch.distributed.get_world_size()
        moves = values > 0
        moved = self.average.lerp(values, 1 - AVERAGE_MOMENTUM)
        self.average.copy_(torch.where(moves, moved, self.average))
        self.updates += moves
        # the average starts at 0; this division removes the bias of its first steps
        unbiased = self.average / (1 - AVERAGE_MOMENTUM**self.updates).clamp(min=1e-12)
        weights = torch.where(self.updates > 0, 1 / unbiased.clamp(min=1e-12), 1.0)
        self.weights = dict(zip(self.tasks, weights.tolist(), strict=True))

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> Tensor:
        """See `Weighting`."""
        if self.training:
            self._follow(losses)
        return self.weighted_sum(losses)


def min_norm(gram: Tensor) -> Tensor:
    """Weights of the shortest vector in the convex hull of some gradients.

    The solution is exact: the shortest vector over all subsets of the gradients whose weights are
    positive. A head has few tasks; for many, Sener & Koltun (2018) use Frank-Wolfe instead.

    Args:
        gram: `(T, T)` products of the gradients, T at most 8.

    Returns:
        `(T,)` weights with sum 1. Gradients of length 0 are left out; if all have length 0, the
        weights are equal.
    """
    products = gram.detach().cpu().double()
    present = [task for task in range(len(products)) if float(products[task, task]) > 0]
    best, shortest = torch.full((len(products),), 1 / len(products)).double(), math.inf
    for size in range(1, len(present) + 1):
        for subset in combinations(present, size):
            weights = torch.zeros(len(products)).double()
            weights[list(subset)] = _stationary(products[list(subset)][:, list(subset)])
            norm = float(weights @ products @ weights)
            if float(weights.min()) > -1e-9 and norm < shortest * (1 - 1e-12):
                best, shortest = weights.clamp(min=0), norm
    return (best / best.sum()).to(gram)


def _stationary(products: Tensor) -> Tensor:
    """Weights with sum 1 and any sign at which the norm is stationary."""
    ones = torch.ones(len(products), 1).double()
    scale = products.diagonal().mean()
    system = torch.cat(
        (torch.cat((products / scale, ones), 1), torch.cat((ones.T, torch.zeros(1, 1)), 1))
    )
    right = torch.zeros(len(system), 1).double()
    right[-1] = 1
    solution: Tensor = torch.linalg.lstsq(system, right, driver="gelsd").solution
    return solution[:-1, 0]


class MinNormWeighting(Weighting):
    """MGDA-UB, Sener & Koltun (2018): the shortest common direction of each head's tasks.

    Gradients are taken with respect to the features that a head's tasks share, which needs one
    short backward pass per task and none through the backbone.

    Args:
        groups: All tasks.
        over_all: Solve for the tasks of all heads together: the weights of all tasks sum to 1, not
            those of each head. A task's gradient is then taken with respect to the features of all
            heads, of which those of other heads do not change its loss.
        normalised: Divide a task's gradient by its length times its loss before the solution, as
            their code does by default (`loss+`); the weights still multiply the losses themselves.
    """

    def __init__(
        self, groups: Sequence[TaskGroup], *, over_all: bool = False, normalised: bool = False
    ) -> None:
        super().__init__(groups)
        self.over_all, self.normalised = over_all, normalised

    def forward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> Tensor:
        """See `Weighting`; outside training it keeps the last weights."""
        if self.training and torch.is_grad_enabled():
            grams = [self._gram(group, losses, features) for group in self.groups]
            solved = [min_norm(gram) for gram in grams]
            shares = _shares(grams, solved) if self.over_all else [1.0] * len(solved)
            for group, weights, share in zip(self.groups, solved, shares, strict=True):
                own = (share * weights).tolist()
                self.weights |= dict(zip(group.tasks, own, strict=True))
        return self.weighted_sum(losses)

    def _gram(
        self, group: TaskGroup, losses: Mapping[str, Tensor], features: Sequence[Tensor]
    ) -> Tensor:
        """`(T, T)` products of the gradients of a head's tasks, as if one process had the batch."""
        shared = [features[index] for index in group.maps]
        rows = torch.stack([self._gradient(losses[task], shared) for task in group.tasks]).double()
        gram = rows @ rows.T
        values = torch.stack([losses[task].detach() for task in group.tasks]).to(gram)
        if _in_group():
            torch.distributed.all_reduce(gram)
            torch.distributed.all_reduce(values)
            values /= torch.distributed.get_world_size()
        if self.normalised:
            lengths = gram.diagonal().sqrt() * values
            # a task without gradient stays one: `min_norm` leaves it out
            factors = torch.where(lengths > 0, 1 / lengths.clamp(min=1e-300), 0.0)
            gram = gram * factors[:, None] * factors
        return gram

    @staticmethod
    def _gradient(loss: Tensor, shared: list[Tensor]) -> Tensor:
        if not loss.requires_grad:
            return torch.cat([torch.zeros_like(f).flatten().float() for f in shared])
        parts = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        return torch.cat(
            [
                (torch.zeros_like(f) if part is None else part).flatten().float()
                for part, f in zip(parts, shared, strict=True)
            ]
        )


def _shares(grams: Sequence[Tensor], solved: Sequence[Tensor]) -> list[float]:
    """Weight of each head where all tasks are solved for together; they sum to 1.

    The gradients of different heads are orthogonal. The shortest combination of orthogonal vectors
    weighs each by the reciprocal of its squared length, so that no solver is needed: the vectors
    are the heads' own shortest ones.
    """
    squares = [float(weights @ gram @ weights) for gram, weights in zip(grams, solved, strict=True)]
    longest = max(float(gram.diagonal().max()) for gram in grams)
    present = [float(gram.diagonal().max()) > 0 for gram in grams]
    inverse = [
        1 / max(square, 1e-12 * longest) if learns else 0.0
        for square, learns in zip(squares, present, strict=True)
    ]
    total = sum(inverse)
    return [value / total if total else 1 / len(inverse) for value in inverse]


def build_weighting(config: LossConfig, groups: Sequence[TaskGroup]) -> Weighting:
    """The strategy that the configuration names."""
    if config.weighting == "uncertainty":
        return UncertaintyWeighting(groups, config.uncertainty_start == "equal")
    if config.weighting == "uniform":
        return FixedWeighting(groups, 1.0, 1.0)
    if config.weighting == "fixed":
        return FixedWeighting(groups, *config.fixed_weights)
    if config.weighting == "loss_norm":
        return NormalisedWeighting(groups)
    over_all = config.mgda_over == "all"
    return MinNormWeighting(groups, over_all=over_all, normalised=config.mgda_normalised)

"""Starts a network from the weights of one that is half as wide and computes the same.

Chen, Goodfellow & Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer" (2016): every
channel is doubled, and whoever reads it takes half of each copy. Doubled neighbours stay neighbours
under concatenation, so no layer has to know another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jde_ray.models.jde.network import JDE

UNEVEN = 0.1  # standard deviation by which the two halves differ, relative to the weight


def is_half(narrow: JDE, wide: JDE) -> bool:
    """Whether all layers of `wide` have the shape of those of `narrow` with inner channels doubled.

    Args:
        narrow: Network that was trained.
        wide: Network to start.
    """
    ours, theirs = narrow.state_dict(), wide.state_dict()
    return ours.keys() == theirs.keys() and all(
        _factors(value, theirs[name]) is not None for name, value in ours.items()
    )


@torch.no_grad()
def widen(narrow: JDE, wide: JDE, seed: int = 0) -> None:
    """Give `wide` weights with which its outputs are those of `narrow`.

    The halves are uneven by a random tenth, in opposite directions: the sum stays what it is, and
    the copies learn different things.

    Args:
        narrow: Network that was trained.
        wide: Network of twice its width (`is_half`); changed in place.
        seed: Seed of the unevenness.

    Raises:
        ValueError: If the shapes are not doubled.
    """
    if not is_half(narrow, wide):
        raise ValueError(
            f"initial weights: a {narrow.config.name} network is not half of {wide.config.name}"
        )
    generator = torch.Generator().manual_seed(seed)
    theirs = wide.state_dict()
    theirs.update(
        {
            name: _doubled(value, theirs[name], generator)
            for name, value in narrow.state_dict().items()
        }
    )
    wide.load_state_dict(theirs)


def _factors(value: Tensor, target: Tensor) -> tuple[int, int] | None:
    """Factors of outputs and inputs, 1 or 2 each; None if it fits neither."""
    if value.ndim != target.ndim or value.shape[2:] != target.shape[2:]:
        return None
    sides = [(mine, theirs) for mine, theirs in zip(value.shape, target.shape, strict=True)][:2]
    if any(theirs not in (mine, 2 * mine) for mine, theirs in sides):
        return None
    factors = [theirs // mine if mine else 1 for mine, theirs in sides]
    outputs, inputs = (*factors, 1, 1)[:2]
    return outputs, inputs


def _doubled(value: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    factors = _factors(value, target)
    assert factors is not None  # noqa: S101 - `is_half` was asked
    outputs, inputs = factors
    if outputs == 2:
        value = value.repeat_interleave(2, 0)
    if inputs == 2:
        noise = 1 + UNEVEN * torch.randn(value.shape, generator=generator)
        value = torch.stack((value * noise, value * (2 - noise)), 2).flatten(1, 2) / 2
    return value

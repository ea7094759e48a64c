"""The kinds of networks that can be trained: joint ones, and those of crops."""

from __future__ import annotations

from pathlib import Path

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.losses.anchor_based import AnchorLoss
from jde_ray.models.jde.losses.anchor_free import JointLoss
from jde_ray.models.jde.network import JDE
from jde_ray.models.reid import weights as reid_files
from jde_ray.models.reid.losses import ReidLoss
from jde_ray.models.reid.network import ReidNet
from jde_ray.pipelines.training.recipe import Recipe

Network = JDE | ReidNet
Loss = JointLoss | AnchorLoss | ReidLoss


def build_network(recipe: Recipe) -> Network:
    """A recipe's network with random weights."""
    return JDE(recipe.config) if recipe.reid is None else ReidNet(recipe.reid)


def save_network(model: Network, path: Path, notes: dict[str, str] | None) -> None:
    """Write a network's weight file, with `notes` in its metadata."""
    if isinstance(model, ReidNet):
        reid_files.save(model, path, notes)
    else:
        joint_files.save(model, path, notes)

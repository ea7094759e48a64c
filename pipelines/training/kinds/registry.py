"""The kinds of networks, by the name in a recipe and by the class of a network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from jde_ray.pipelines.training.kinds import joint, motion, rcnn, reid
from jde_ray.pipelines.training.kinds.kind import Network, NetworkKind
from jde_ray.pipelines.training.recipe import Recipe

KINDS: dict[str, NetworkKind] = {  # by `NetworkNames.kind`
    "joint": joint.KIND,
    "detector": rcnn.KIND,
    "two-stage": rcnn.KIND,
    "reid": reid.KIND,
    "motion": motion.KIND,
}


def kind_of(model: nn.Module) -> NetworkKind:
    """The kind of a network.

    Raises:
        TypeError: If it is of none.
    """
    for kind in KINDS.values():
        if isinstance(model, kind.network):
            return kind
    raise TypeError(f"network: got {type(model).__name__}, expected one of {', '.join(KINDS)}")


def build_network(recipe: Recipe) -> Network:
    """A recipe's network with random weights."""
    return KINDS[recipe.names.kind].build(recipe)


def initialise(model: Network, path: Path) -> int:
    """Load trained weights into a network; return the number of tensors taken.

    A backbone is read from NanoDet-g's TensorFlow.js file (CSP), a FastestDet-layout state dict
    (ShuffleNet), a Darknet file (Darknet-53) or a torchvision state dict (ResNet); a complete
    network from a `.safetensors` of the same configuration, or of one that is half as wide
    (`models.jde.widening`), or, for Darknet-53, from a published checkpoint. Re-identification and
    two-stage networks also take the backbone of a joint network's file.

    Raises:
        ValueError: If the file is missing or does not fit.
    """
    if not path.is_file():
        raise ValueError(f"initial weights: {path} is missing")
    return kind_of(model).initialise(model, path)


def describe(model: Network) -> str:
    """One line with a network's name, number of parameters and input size."""
    number = sum(p.numel() for p in model.parameters())
    text = f"{number / 1e6:.2f} M" if number >= 10_000 else f"{number}"
    config = model.config
    return f"{config.name}: {text} parameters, {config.size[0]}x{config.size[1]}"

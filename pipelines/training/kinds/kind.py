"""What the training does with a network of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from jde_ray.pipelines.training.recipe import Recipe

Classifier = dict[str, Tensor] | None
# An `nn.Module` whose `config` has `name` and `size`; which one it is only its kind knows.
Network = Any
# An `nn.Module` whose `weighting` holds the tasks and their weights
Loss = Any


@dataclass(frozen=True, kw_only=True)
class NetworkKind:
    """A kind of networks.

    Attributes:
        network: Class of its networks.
        build: A recipe's network with random weights.
        save: Writes the weight file of a network, with notes in its metadata.
        initialise: Loads the weights of a file that exists into a network, and returns the number
            of tensors taken; ValueError if they do not fit.
        run_maps: The part of the forward pass on `(B, 3, H, W)` pictures that takes most memory.
        build_loss: The loss of a network, for a recipe and a number of identities, with the
            weights that its classifier starts from; ValueError if it has too few identities.
        build_trainee: Network and loss as a module whose forward pass takes a batch's `inputs` and
            returns the total and the parts: of recipe and precision; and whether the network is
            replayed from recorded graphs, which needs a GPU.
    """

    network: type[nn.Module]
    build: Callable[[Recipe], nn.Module]
    save: Callable[[Network, Path, dict[str, str] | None], None]
    initialise: Callable[[Network, Path], int]
    run_maps: Callable[[Network, Tensor], object]
    build_loss: Callable[[Network, Recipe, int, Classifier], nn.Module]
    build_trainee: Callable[[Network, Loss, Recipe, str, bool], nn.Module]

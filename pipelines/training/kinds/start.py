"""Initial weights that several kinds of networks take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from jde_ray.models.jde.checkpoint import check_keys, read_pickle


def load_whole(path: Path, target: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Load all tensors of a module; return their number.

    Raises:
        ValueError: If one is missing, unknown or of another shape; one line.
    """
    try:
        target.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"initial weights: {path}: {' '.join(str(error).split())}") from None
    return len(state)


def initialise_shufflenet(backbone: nn.Module, path: Path) -> int:
    """Load a FastestDet state dict into a ShuffleNet; return the number of tensors taken.

    That detector was trained on BGR; the input channels of the first convolution are swapped for
    RGB.

    Raises:
        ValueError: If a tensor is missing or of another shape.
    """
    state = read_pickle(path)
    prefix = "backbone." if any(key.startswith("backbone.") for key in state) else ""
    mine = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    check_keys(path, mine, backbone.state_dict())
    mine["first_conv.0.weight"] = mine["first_conv.0.weight"].flip(1)
    backbone.load_state_dict(mine)
    return len(mine)

"""Initial weights of a training: random, a backbone trained elsewhere, or a complete network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from jde_ray.models.jde.checkpoint import check_keys, read_pickle
from jde_ray.models.jde.importers import load_backbone
from jde_ray.models.jde.weights import PICKLES, load, metadata
from jde_ray.models.jde.widening import is_half, widen
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.reid.weights import NETWORK
from jde_ray.models.reid.weights import load as load_reid
from jde_ray.pipelines.training.networks import Network


def initialise(model: Network, path: Path) -> int:
    """Load trained weights into a network; return the number of tensors taken.

    A backbone is read from NanoDet-g's TensorFlow.js file (CSP), a FastestDet-layout state dict
    (ShuffleNet), a Darknet file (Darknet-53) or a torchvision state dict (ResNet); a complete
    network from a `.safetensors` of the same configuration, or of one that is half as wide
    (`models.jde.widening`), or, for Darknet-53, from a published checkpoint. A re-identification
    network also takes the backbone of a joint network's file.

    Raises:
        ValueError: If the file is missing or does not fit.
    """
    if not path.is_file():
        raise ValueError(f"initial weights: {path} is missing")
    if isinstance(model, ReidNet):
        return _initialise_reid(model, path)
    is_checkpoint = path.suffix in PICKLES and model.config.backbone == "darknet53"
    if path.suffix == ".safetensors" or is_checkpoint:
        trained = load(path, model.config.size if is_checkpoint else None)
        state = trained.state_dict()
        if trained.config != model.config and is_half(trained, model):
            widen(trained, model)
            return len(state)
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise ValueError(f"initial weights: {path}: {' '.join(str(error).split())}") from None
        return len(state)
    if model.config.backbone != "shufflenet":
        return load_backbone(model, path).taken
    return initialise_backbone(model, path)


def _initialise_reid(model: ReidNet, path: Path) -> int:
    if path.suffix != ".safetensors":
        if model.config.backbone == "shufflenet":
            return initialise_backbone(model, path)
        return load_backbone(model, path).taken
    if metadata(path).get("network") == NETWORK:
        state = load_reid(path).state_dict()
        target: nn.Module = model
    else:
        whole = load(path).backbone.state_dict()
        target = model.backbone
        state = {key: whole[key] for key in target.state_dict() if key in whole}
    try:
        target.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"initial weights: {path}: {' '.join(str(error).split())}") from None
    return len(state)


def initialise_backbone(model: Network, path: Path) -> int:
    """Load a FastestDet state dict into a ShuffleNet backbone; return the number of tensors taken.

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
    check_keys(path, mine, model.backbone.state_dict())
    mine["first_conv.0.weight"] = mine["first_conv.0.weight"].flip(1)
    model.backbone.load_state_dict(mine)
    return len(mine)


def describe(model: Network) -> str:
    """One line with a network's name, number of parameters and input size."""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    config = model.config
    return f"{config.name}: {millions:.2f} M parameters, {config.size[0]}x{config.size[1]}"

"""Weight files of two-stage networks: safetensors that hold the configuration.

The metadata also says on how many boxes and people the network was trained, from which sources, and
under which licence it may be used. Torchvision's Faster R-CNN for COCO is read from its own file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from jde_ray.models.jde.checkpoint import check_keys
from jde_ray.models.jde.weights import PICKLES, network_of, resolve
from jde_ray.models.rcnn.config import RcnnConfig
from jde_ray.models.rcnn.importers import TORCHVISION, is_detector, read_detector
from jde_ray.models.rcnn.network import RcnnNet

NETWORK = "rcnn"  # value of the metadata `network`, by which other readers know such a file


class RcnnWeightsError(ValueError):
    """A weight file is refused; one line says why."""


def save(model: RcnnNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a network's parameters and buffers, its configuration and `notes` as metadata.

    Args:
        model: The network.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence`, `boxes` and `identities`.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"network": NETWORK, "config": model.config.to_json()}
    save_file(state, path, metadata={**(notes or {}), **facts})


def metadata(path: Path) -> dict[str, str]:
    """Text metadata of a file: `config`, `licence`, `boxes`, `identities` and the other notes.

    A file of torchvision has the configuration of its detector, and no notes.

    Raises:
        RcnnWeightsError: If it is missing, or not the file of such a network.
    """
    if not path.is_file():
        raise RcnnWeightsError(f"weights: {path} is missing")
    if path.suffix in PICKLES:
        return {"network": NETWORK, "config": TORCHVISION.to_json()}
    try:
        with safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        text = f"is not a complete safetensors file ({reason})"
        raise RcnnWeightsError(f"weights: {path} {text}") from None
    if facts.get("network") != NETWORK:
        text = "holds no two-stage network; expected weights of `network: frcnn-...` or the like"
        raise RcnnWeightsError(f"weights: {path} {text}")
    return facts


def is_two_stage(weights: str | Path) -> bool:
    """Whether weights, a path or the name of a shipped model, hold a two-stage network.

    Raises:
        ValueError: If they do not exist, or are damaged.
    """
    path = resolve(weights)
    return is_detector(path) if path.suffix in PICKLES else network_of(path) == NETWORK


def fingerprint(path: Path) -> str:
    """SHA-256 of the file, 64 hex digits.

    Raises:
        RcnnWeightsError: If it is missing.
    """
    if not path.is_file():
        raise RcnnWeightsError(f"weights: {path} is missing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path: Path) -> RcnnNet:
    """A network ready for inference on the CPU.

    Args:
        path: File written by `save`, or the `.pth` file of torchvision's detector.

    Raises:
        RcnnWeightsError: If the file is missing, damaged, of another network, or holds a number
            that is not finite.
    """
    text = metadata(path).get("config", "")
    try:
        if path.suffix in PICKLES:
            return ready(read_detector(path)[0])
        model = empty(RcnnConfig.from_json(text))
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        check_keys(path, state, model.state_dict())
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        prefix = "" if reason.startswith("weights: ") else f"weights: {path}: "
        raise RcnnWeightsError(f"{prefix}{reason}") from None
    # no tensor refers to the file's memory afterwards
    model.load_state_dict({key: value.clone() for key, value in state.items()}, assign=True)
    return ready(model)


def empty(config: RcnnConfig) -> RcnnNet:
    """A network whose tensors have shapes but no numbers: initialising millions takes seconds."""
    with torch.device("meta"):
        return RcnnNet(config)


def ready(model: RcnnNet) -> RcnnNet:
    """The network for inference, its convolutions with channels last."""
    module: nn.Module = model.eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model

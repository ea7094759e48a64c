"""Weight files of two-stage networks: safetensors that hold the configuration.

The metadata also says on how many boxes and people the network was trained, from which sources, and
under which licence it may be used. Torchvision's Faster R-CNN for COCO is read from its own file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from jde_ray.models.jde.checkpoint import check_keys
from jde_ray.models.jde.refusals import CheckpointError, one_line
from jde_ray.models.jde.safetensors_files import host_state, read_facts, read_state, write
from jde_ray.models.jde.weights import PICKLES, network_of, resolve
from jde_ray.models.rcnn.config import RcnnConfig
from jde_ray.models.rcnn.importers import TORCHVISION, is_detector, read_detector
from jde_ray.models.rcnn.network import RcnnNet

NETWORK = "rcnn"  # value of the metadata `network`, by which other readers know such a file


def save(model: RcnnNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a network's parameters and buffers, its configuration and `notes` as metadata.

    Args:
        model: The network.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence`, `boxes` and `identities`.
    """
    facts = {"network": NETWORK, "config": model.config.to_json()}
    write(host_state(model), path, {**(notes or {}), **facts})


def metadata(path: Path) -> dict[str, str]:
    """Text metadata of a file: `config`, `licence`, `boxes`, `identities` and the other notes.

    A file of torchvision has the configuration of its detector, and no notes.

    Raises:
        CheckpointError: If it is missing, or not the file of such a network.
    """
    if not path.is_file():
        raise CheckpointError(f"weights: {path} is missing")
    if path.suffix in PICKLES:
        return {"network": NETWORK, "config": TORCHVISION.to_json()}
    facts = read_facts(path)
    if facts.get("network") != NETWORK:
        text = "holds no two-stage network; expected weights of `network: frcnn-...` or the like"
        raise CheckpointError(f"weights: {path} {text}")
    return facts


def is_two_stage(weights: str | Path) -> bool:
    """Whether weights, a path or the name of a shipped model, hold a two-stage network.

    Raises:
        ValueError: If they do not exist, or are damaged.
    """
    path = resolve(weights)
    return is_detector(path) if path.suffix in PICKLES else network_of(path) == NETWORK


def load(path: Path) -> RcnnNet:
    """A network ready for inference on the CPU.

    Args:
        path: File written by `save`, or the `.pth` file of torchvision's detector.

    Raises:
        CheckpointError: If the file is missing, damaged, of another network, or holds a number
            that is not finite.
    """
    text = metadata(path).get("config", "")
    try:
        if path.suffix in PICKLES:
            return ready(read_detector(path)[0])
        model, state = empty(RcnnConfig.from_json(text)), read_state(path)
        check_keys(path, state, model.state_dict())
    except CheckpointError:
        raise
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"weights: {path}: {one_line(error)}") from None
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

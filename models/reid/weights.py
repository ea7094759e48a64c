"""Weight files of re-identification networks: safetensors that hold the configuration.

The metadata also says how many people the network was trained on, from which sources, and under
which licence it may be used.
"""

from __future__ import annotations

from pathlib import Path

import torch

from jde_ray.models.jde.refusals import CheckpointError, one_line
from jde_ray.models.jde.safetensors_files import host_state, read_facts, read_state, write
from jde_ray.models.reid.config import ReidConfig
from jde_ray.models.reid.network import ReidNet

NETWORK = "reid"  # value of the metadata `network`, by which other readers know such a file


def save(model: ReidNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a network's parameters and buffers, its configuration and `notes` as metadata.

    Args:
        model: The network.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence` and `identities`.
    """
    facts = {"network": NETWORK, "config": model.config.to_json()}
    write(host_state(model), path, {**(notes or {}), **facts})


def metadata(path: Path) -> dict[str, str]:
    """Text metadata of a file: `config`, `licence`, `identities` and the other notes.

    Raises:
        CheckpointError: If it is missing, or not the file of such a network.
    """
    if not path.is_file():
        raise CheckpointError(f"weights: {path} is missing")
    facts = read_facts(path)
    if facts.get("network") != NETWORK:
        own = facts.get("network", "joint")
        text = f"holds no re-identification network but one of kind {own}; expected .safetensors"
        text += " of `network: reid-...`, an .onnx file, or YAML that declares one"
        raise CheckpointError(f"weights: {path} {text}")
    return facts


def load(path: Path) -> ReidNet:
    """A network ready for inference on the CPU.

    Raises:
        CheckpointError: If the file is missing, damaged, of another network, or holds a number
            that is not finite.
    """
    text = metadata(path).get("config", "")
    try:
        model = ReidNet(ReidConfig.from_json(text))
        state = read_state(path)
        model.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"weights: {path}: {one_line(error)}") from None
    wrong = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if wrong:
        raise CheckpointError(f"weights: {path} holds NaN or Inf in {wrong[0]}")
    return model.eval()

"""Weight files of re-identification networks: safetensors that hold the configuration.

The metadata also says how many people the network was trained on, from which sources, and under
which licence it may be used.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jde_ray.models.reid.config import ReidConfig
from jde_ray.models.reid.network import ReidNet

NETWORK = "reid"  # value of the metadata `network`, by which other readers know such a file


class ReidWeightsError(ValueError):
    """A weight file is refused; one line says why."""


def save(model: ReidNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a network's parameters and buffers, its configuration and `notes` as metadata.

    Args:
        model: The network.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence` and `identities`.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"network": NETWORK, "config": model.config.to_json()}
    save_file(state, path, metadata={**(notes or {}), **facts})


def metadata(path: Path) -> dict[str, str]:
    """Text metadata of a file: `config`, `licence`, `identities` and the other notes.

    Raises:
        ReidWeightsError: If it is missing, or not the file of such a network.
    """
    if not path.is_file():
        raise ReidWeightsError(f"weights: {path} is missing")
    try:
        with safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        text = f"is not a complete safetensors file ({reason})"
        raise ReidWeightsError(f"weights: {path} {text}") from None
    if facts.get("network") != NETWORK:
        own = facts.get("network", "joint")
        text = f"holds no re-identification network but one of kind {own}; expected .safetensors"
        text += " of `network: reid-...`, an .onnx file, or YAML that declares one"
        raise ReidWeightsError(f"weights: {path} {text}")
    return facts


def load(path: Path) -> ReidNet:
    """A network ready for inference on the CPU.

    Raises:
        ReidWeightsError: If the file is missing, damaged, of another network, or holds a number
            that is not finite.
    """
    text = metadata(path).get("config", "")
    try:
        model = ReidNet(ReidConfig.from_json(text))
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        model.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ReidWeightsError(f"weights: {path}: {reason}") from None
    wrong = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if wrong:
        raise ReidWeightsError(f"weights: {path} holds NaN or Inf in {wrong[0]}")
    return model.eval()

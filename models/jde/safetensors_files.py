"""Networks as safetensors files, whose metadata holds the configuration and notes.

Joint, two-stage and re-identification networks are saved alike; what their metadata must say is
each kind's own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jde_ray.models.jde.refusals import CheckpointError, one_line


def host_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, on the CPU and contiguous, as files hold them."""
    return {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}


def write(state: Mapping[str, Tensor], path: Path, facts: Mapping[str, str]) -> None:
    """Write tensors, with text metadata.

    Args:
        state: Tensors by name, as of `host_state`.
        path: File to write; its folder is created.
        facts: Metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), path, metadata=dict(facts))


def read_facts(path: Path) -> dict[str, str]:
    """Text metadata of a file that exists.

    Raises:
        CheckpointError: If it is not a complete safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        text = f"is not a complete safetensors file ({one_line(error)})"
        raise CheckpointError(f"weights: {path} {text}") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name; they refer to the file's memory."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)

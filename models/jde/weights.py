"""Weight files: safetensors whose metadata holds the network's configuration."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.jde.config import JDEConfig
from models.jde.network import JDE

PRETRAINED = Path(__file__).parent / "pretrained"


class CheckpointError(ValueError):
    """A weight file is refused; one line with the file, the first wrong key, what is accepted."""


def resolve(weights: str | Path) -> Path:
    """Path of a shipped model's name or of a file.

    Raises:
        CheckpointError: If neither exists.
    """
    path = Path(weights)
    shipped = PRETRAINED / f"{weights}.safetensors"
    if path.is_file():
        return path
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(p.stem for p in PRETRAINED.glob("*.safetensors"))) or "none"
    raise CheckpointError(
        f"weights: {weights} is neither a file nor a shipped model (shipped: {names})"
    )


def sha256(weights: str | Path) -> str:
    """64 hex digits over the file's bytes."""
    with resolve(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metadata(weights: str | Path) -> dict[str, str]:
    """Text metadata of a weight file: `config`, `licence`, what else was saved.

    Raises:
        CheckpointError: If the file is no safetensors file.
    """
    path = resolve(weights)
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"weights: {path} is not a complete safetensors file ({_one_line(error)})"
        ) from None


def save(
    model: JDE, path: Path, notes: dict[str, str] | None = None, *, half: bool = False
) -> None:
    """Write a network's parameters and buffers, its configuration and `notes` as metadata.

    Args:
        model: The network.
        path: Of the file; its folder is created.
        notes: Text metadata such as `licence`.
        half: Round convolution kernels to float16, which halves the file; norms and biases stay.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if half:
        state = {key: v.half() if v.ndim == 4 else v for key, v in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={**(notes or {}), "config": model.config.to_json()})


def load(weights: str | Path, size: tuple[int, int] | None = None) -> JDE:
    """A network ready for inference on the CPU.

    Args:
        weights: Name of a shipped model or path of a safetensors file written by `save`.
        size: Width and height it will be fed; None for what it was trained for. Anchors do not
            follow the size.

    Raises:
        CheckpointError: If the file is missing, truncated, of another kind or of another shape.
    """
    path = resolve(weights)
    text = metadata(path).get("config")
    if text is None:
        raise CheckpointError(f"weights: {path} has no network configuration in its metadata")
    try:
        config = JDEConfig.from_json(text)
        if size is not None and any(side < 32 or side % 32 for side in size):
            raise ValueError(f"size: got {size}, accepted are multiples of 32")
        model = JDE(config)
    except ValueError as error:
        raise CheckpointError(f"weights: {path}: {error}") from None
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    _check_keys(path, state, model.state_dict())
    model.load_state_dict(state)  # float16 kernels become float32 here
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _check_keys(path: Path, got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for key, value in wanted.items():
        if key not in got:
            raise CheckpointError(f"weights: {path} lacks {key} of shape {tuple(value.shape)}")
        if got[key].shape != value.shape:
            raise CheckpointError(
                f"weights: {path} holds {key} of shape {tuple(got[key].shape)}, "
                f"accepted is {tuple(value.shape)}"
            )
    unknown = sorted(set(got) - set(wanted))
    if unknown:
        raise CheckpointError(f"weights: {path} holds an unknown key {unknown[0]}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""Weight files: our own, and those of other projects through `models.jde.importers`.

Our own are safetensors whose metadata holds the network's configuration. Files of other projects do
not state their input size, so the caller gives it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor

from jde_ray.models import cards
from jde_ray.models.jde.checkpoint import (
    DARKNET,
    PYTORCH,
    check_keys,
    fitting_suffix,
    read_pickle,
)
from jde_ray.models.jde.config import PUBLISHED_ANCHORS, JDEConfig, published
from jde_ray.models.jde.hub import fetch, is_on_hub
from jde_ray.models.jde.importers import ImportReport, published_state, whole_darknet_state
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.refusals import CheckpointError as CheckpointError  # for those who load
from jde_ray.models.jde.refusals import one_line
from jde_ray.models.jde.safetensors_files import host_state, read_facts, read_state, write

logger = logging.getLogger(__name__)

JOINT = "joint"  # kind of the networks of this package, whose files do not name it
PICKLES = (PYTORCH, ".pth")  # suffixes of what torch.save wrote


def resolve(weights: str | Path) -> Path:
    """Path of a weight file, given its path, the name of a shipped model, or an address of a hub.

    Raises:
        CheckpointError: If none of them exists, or the file is one for other programs.
    """
    if is_on_hub(weights):
        return fetch(str(weights))
    path = Path(weights)
    if path.suffix.lower() == ".onnx" and path.is_file():
        raise CheckpointError(
            f"weights: {weights} is an ONNX file; expected a YAML file that declares such files, as"
            " docs/separate-networks.md shows"
        )
    if path.is_file():
        return path
    if (shipped := cards.JOINT.find(str(weights))) is not None:
        return shipped
    raise CheckpointError(cards.JOINT.unknown(str(weights)))


def sha256(weights: str | Path) -> str:
    """SHA-256 of the file, 64 hex digits."""
    with resolve(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metadata(weights: str | Path) -> dict[str, str]:
    """Text metadata of a weight file: `config`, `licence` and the other notes saved with it.

    Raises:
        CheckpointError: If the file is neither a safetensors file nor `.pt` nor `.weights`.
    """
    path = resolve(weights)
    if path.suffix == DARKNET:
        return {}
    if path.suffix in PICKLES:
        content = read_pickle(path)
        texts = {**(content.get("notes") or {}), "config": content.get("config")}
        return {key: text for key, text in texts.items() if isinstance(text, str)}
    try:
        return read_facts(path)
    except CheckpointError:
        suffix = fitting_suffix(path)
        kind = {PYTORCH: "a PyTorch file", DARKNET: "a Darknet file"}.get(suffix or "")
        if kind is None:
            raise
        text = f"is {kind}; give it the suffix {suffix}"
        raise CheckpointError(f"weights: {path} {text}") from None


def network_of(weights: str | Path) -> str:
    """The kind of network that a weight file holds: `joint`, or what its metadata says.

    Raises:
        CheckpointError: If it is missing, or not what its suffix says.
    """
    is_own = resolve(weights).suffix not in (DARKNET, *PICKLES)
    return metadata(weights).get("network", JOINT) if is_own else JOINT


def save(
    model: JDE, path: Path, notes: dict[str, str] | None = None, *, half: bool = False
) -> None:
    """Write a network's parameters and buffers, with its configuration and `notes` as metadata.

    Args:
        model: The network.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence`.
        half: Round convolution kernels to float16, which halves the file; norms and biases stay
            float32.
    """
    state = host_state(model)
    if half:
        state = {key: v.half() if v.ndim == 4 else v for key, v in state.items()}
    write(state, path, {**(notes or {}), "config": model.config.to_json()})


def save_torch(model: JDE, path: Path, notes: dict[str, str] | None = None) -> None:
    """Like `save`, with `torch.save`: a dictionary of `config` (JSON text), `notes` and `model`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"config": model.config.to_json(), "notes": notes or {}, "model": host_state(model)}
    torch.save(content, path)


def load(weights: str | Path, size: tuple[int, int] | None = None) -> JDE:
    """A network ready for inference on the CPU; arguments and errors of `load_reported`."""
    return load_reported(weights, size)[0]


def load_reported(
    weights: str | Path, size: tuple[int, int] | None = None
) -> tuple[JDE, ImportReport]:
    """A network ready for inference on the CPU, and a report of the tensors taken from the file.

    Args:
        weights: Name of a shipped model, or path of a file: safetensors written by `save`, a
            published `.pt` checkpoint or one of `save_torch`, a complete Darknet `.weights` file.
        size: Width and height of its inputs; None for the size it was trained for. Published files
            do not state theirs, so it must be given. A network of the published layout is refused
            at any size but its own; others take any. Anchors do not follow the size.

    Raises:
        CheckpointError: If the file is missing, truncated, of another kind or shape, or if the size
            does not fit.
    """
    path = resolve(weights)
    check_multiple(size)
    try:
        if path.suffix in PICKLES:
            return _load_pickle(path, size)
        if path.suffix == DARKNET:
            config = _published_config(path, size)
            return _build(config, *whole_darknet_state(path, _empty(config).state_dict()))
        return _load_safetensors(path, size)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"weights: {path}: {one_line(error)}") from None


def check_multiple(size: tuple[int, int] | None) -> None:
    """Refuse an input size whose sides are no multiples of 32.

    Raises:
        CheckpointError: Naming the nearest size.
    """
    if size is not None and any(side < 32 or side % 32 for side in size):
        nearest = _text(tuple(max(32, round(side / 32) * 32) for side in size))
        raise CheckpointError(
            f"size: got {_text(size)}, expected multiples of 32, nearest is {nearest}"
        )


def _load_safetensors(path: Path, size: tuple[int, int] | None) -> tuple[JDE, ImportReport]:
    facts = metadata(path)
    text = facts.get("config")
    if facts.get("network") == "reid":
        use = "name it with --reid, or as the embedder of separate networks"
        raise CheckpointError(f"weights: {path} holds a re-identification network; {use}")
    if facts.get("network") == "rcnn":
        raise CheckpointError(f"weights: {path} holds a two-stage network, expected a joint one")
    if text is None:
        raise CheckpointError(f"weights: {path} has no network configuration in its metadata")
    config = JDEConfig.from_json(text)
    _check_size(path, config, size)
    return _build_own(path, config, read_state(path))


def _load_pickle(path: Path, size: tuple[int, int] | None) -> tuple[JDE, ImportReport]:
    content = read_pickle(path)
    state = content.get("model")
    if not isinstance(state, dict):
        keys = ", ".join(map(str, list(content)[:3])) or "nothing"
        raise CheckpointError(
            f"weights: {path} lacks model, a dictionary of tensors (it holds {keys}); "
            "expected a published JDE checkpoint of epoch, model, optimizer"
        )
    text = content.get("config")
    if isinstance(text, str):
        config = JDEConfig.from_json(text)
        _check_size(path, config, size)
        return _build_own(path, config, state)
    config = _published_config(path, size)
    return _build(config, *published_state(path, state, _empty(config).state_dict()))


def _published_config(path: Path, size: tuple[int, int] | None) -> JDEConfig:
    if size not in PUBLISHED_ANCHORS:
        accepted = ", ".join(map(_text, PUBLISHED_ANCHORS))
        got = "the file does not say its input size" if size is None else f"got size {_text(size)}"
        raise CheckpointError(f"weights: {path}: {got}; --size accepts {accepted}")
    return published("darknet53", size)


def _check_size(path: Path, config: JDEConfig, size: tuple[int, int] | None) -> None:
    if size not in (None, config.size) and config.has_published_layout:
        raise CheckpointError(
            f"weights: {path} holds {config.name}: got size {_text(size or ())}, "
            f"expected {_text(config.size)}, for which its anchors were chosen"
        )


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _empty(config: JDEConfig) -> JDE:
    with torch.device("meta"):  # shapes only: initialising 65 million weights takes a second
        return JDE(config)


def _build_own(path: Path, config: JDEConfig, state: dict[str, Tensor]) -> tuple[JDE, ImportReport]:
    check_keys(path, state, _empty(config).state_dict())
    return _build(config, state, ImportReport(len(state)))


def _build(
    config: JDEConfig, state: dict[str, Tensor], report: ImportReport
) -> tuple[JDE, ImportReport]:
    model = _empty(config)
    wanted = (
        model.state_dict()
    )  # converts float16 kernels to float32; no tensor refers to the file's memory afterwards
    copies = {key: value.to(wanted[key].dtype, copy=True) for key, value in state.items()}
    model.load_state_dict(copies, assign=True)
    logger.info("%s: %s", config.name, report)
    return model.eval().to(memory_format=torch.channels_last), report  # type: ignore[call-overload]

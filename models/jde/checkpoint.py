"""Reading foreign checkpoints: no code in them is run, and every refusal is one line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jde_ray.models.jde.refusals import CheckpointError, one_line

PYTORCH, DARKNET = ".pt", ".weights"  # the suffix decides which reader is used


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a file of `torch.save`, restricted to tensors and plain values (`weights_only`).

    A file that names anything else is refused, and nothing in it is called.

    Raises:
        CheckpointError: If the file is truncated, of another kind, not a dictionary, or would run
            code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  a damaged pickle raises nearly anything
        raise CheckpointError(f"weights: {path} {_why(path, error)}") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckpointError(f"weights: {path} holds a {kind}, expected a dictionary")
    return content


def _why(path: Path, error: Exception) -> str:
    suffix = fitting_suffix(path)
    if suffix == DARKNET:
        return f"is a Darknet file, not a PyTorch one; give it the suffix {DARKNET}"
    if suffix != PYTORCH:
        return "is not a PyTorch file (it is neither a zip archive nor a pickle)"
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return f"would run code when read ({named[1]}); expected a file of tensors only"
    text = one_line(error)
    if "TorchScript" in text:
        return "is a TorchScript program; expected a file of tensors only"
    reason = text.rpartition("WeightsUnpickler error: ")[2]  # past torch's advice
    reason = reason.partition(" Check the documentation")[0].partition(". ")[0]
    return f"is not a complete PyTorch file of tensors ({type(error).__name__}: {reason[:90]})"


def fitting_suffix(path: Path) -> str | None:
    """The suffix that fits the file's first bytes; None if they belong to neither kind."""
    with path.open("rb") as file:
        start = file.read(8)
    if looks_like_darknet(start):
        return DARKNET
    if start[:2] == b"PK" or start[:1] == b"\x80":  # a zip archive, a pickle
        return PYTORCH
    return None


def looks_like_darknet(start: bytes) -> bool:
    """Whether the first 8 bytes are a Darknet version: 0.1 or 0.2, little-endian."""
    return start in (b"\0\0\0\0\1\0\0\0", b"\0\0\0\0\2\0\0\0")


def check_keys(path: Path, got: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """Require exactly the keys and shapes of `wanted`, and finite numbers.

    Raises:
        CheckpointError: Naming the first key that is missing, of another shape, unknown or not
            finite.
    """
    for key, value in wanted.items():
        if key not in got:
            raise CheckpointError(f"weights: {path} lacks {key} of shape {tuple(value.shape)}")
        found = got[key]
        if not isinstance(found, Tensor):
            kind = type(found).__name__
            raise CheckpointError(f"weights: {path} holds a {kind} as {key}, expected a tensor")
        if found.shape != value.shape:
            raise CheckpointError(
                f"weights: {path} holds {key} of shape {tuple(found.shape)}, "
                f"expected {tuple(value.shape)}"
            )
        if found.is_floating_point() != value.is_floating_point():
            raise CheckpointError(
                f"weights: {path} holds {key} as {found.dtype}, expected {value.dtype}"
            )
    unknown = [key for key in got if key not in wanted]
    if unknown:
        raise CheckpointError(f"weights: {path} holds an unknown key {unknown[0]}")
    for key in wanted:  # a damaged file, or a training that went wrong: every score would be NaN
        low, high = got[key].aminmax()  # NaN if one is; a tenth of the time of `isfinite` on all
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise CheckpointError(f"weights: {path} holds NaN or Inf in {key}")

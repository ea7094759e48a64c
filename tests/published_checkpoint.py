"""Checkpoints in the published layout, and Darknet files, made from reproducible random numbers.

The rule is that of the golden figures in `golden/forward_576x320.npz`: every tensor is drawn from
its key. Without the classifier of 14,455 identities unless it is asked for.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import torch

KEYS = Path(__file__).parent / "golden" / "state_dict_keys.txt"
TASK_WEIGHTS = {"s_c": -4.15, "s_r": -4.85, "s_id": -2.3}
BOX_HEADS = ("conv_81.", "conv_96.", "conv_111.")


def published_keys() -> dict[str, tuple[int, ...]]:
    """All 455 keys of a published checkpoint and their shapes."""
    shapes = {}
    for line in KEYS.read_text().splitlines():
        if line and not line.startswith("#"):
            key, shape, _ = line.split("\t")
            shapes[key] = () if shape == "scalar" else tuple(map(int, shape.split("x")))
    return shapes


def drawn(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.zeros((), dtype=torch.int64)
    if leaf in TASK_WEIGHTS:
        return torch.tensor([TASK_WEIGHTS[leaf]])
    if "batch_norm_" in key and leaf in ("weight", "running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif "batch_norm_" in key or leaf == "bias":
        values = rng.standard_normal(shape) * 0.1
    elif key.startswith("classifier"):
        values = rng.standard_normal(shape) * (1.0 / shape[1]) ** 0.5
    else:
        values = rng.standard_normal(shape) * (2.0 / np.prod(shape[1:])) ** 0.5
        values *= 0.3 if any(head in key for head in BOX_HEADS) else 0.65
    return torch.from_numpy(values.astype(np.float32))


@cache
def build_state(num_identities: int = 0) -> OrderedDict[str, torch.Tensor]:
    state = OrderedDict()
    for key, shape in published_keys().items():
        if not key.startswith("classifier"):
            state[key] = drawn(key, shape)
        elif num_identities:
            state[key] = drawn(key, (num_identities, *shape[1:]))
    return state


def write_checkpoint(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save({"epoch": 29, "model": state, "optimizer": []}, path)
    return path


def write_darknet(path: Path, state: dict[str, torch.Tensor], end: int = 1000) -> Path:
    """A Darknet binary of the layers below `end`, byte by byte."""
    with path.open("wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 5, 32_000_000))
        for i in range(end):
            conv, norm = f"module_list.{i}.conv_{i}", f"module_list.{i}.batch_norm_{i}"
            if f"{conv}.weight" not in state:
                continue
            if f"{norm}.weight" in state:
                names = [f"{norm}.{s}" for s in ("bias", "weight", "running_mean", "running_var")]
            else:
                names = [f"{conv}.bias"]
            for name in (*names, f"{conv}.weight"):
                file.write(state[name].numpy().astype("<f4").tobytes())
    return path

"""The parameters of a recurrent autoregression, and the settings that every tracker needs."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from jde_ray.models.tracking.autoregression import SHAPES, Autoregression


def parameters(seed: int = 0, **fixed: np.ndarray) -> Autoregression:
    """Random parameters, but for those that are given."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(0, 0.3, shape) for name, shape in SHAPES.items()}
    return Autoregression(**{**drawn, **fixed})


def newest(**fixed: np.ndarray) -> Autoregression:
    """Parameters that foretell the newest input again, with variance 1."""
    flat = {name: np.zeros(SHAPES[name]) for name in ("attention", "spread", "spread_bias")}
    logits = np.where(np.arange(SHAPES["attention_bias"][0]) == 0, 0.0, -1e3)
    return parameters(**{"attention_bias": logits, "least": np.array(-12.0), **flat, **fixed})


@cache
def weights_file() -> str:
    """Path of a file of `newest`, which lies there until the process ends."""
    folder = tempfile.mkdtemp(prefix="jde-ran-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "ran.safetensors"
    newest().save(path)
    return str(path)


def needed(association: str) -> dict[str, str]:
    """Settings without a default of an association."""
    return {"weights": weights_file()} if association == "ran" else {}

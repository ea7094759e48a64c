"""The parameters of recurrent autoregressions, and the settings that every tracker needs."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from jde_ray.models.tracking.autoregression import HIDDEN, INPUTS, MEMORY, Autoregression, shapes
from jde_ray.models.tracking.projection import Projection
from jde_ray.models.tracking.ran_weights import LOOK_HIDDEN, Looks, RanWeights

MOTION = (INPUTS, HIDDEN)


def parameters(
    seed: int = 0, size: tuple[int, int] = MOTION, **fixed: np.ndarray
) -> Autoregression:
    """Random parameters for so many inputs and hidden numbers, but for those that are given."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(0, 0.3, shape) for name, shape in shapes(*size).items()}
    return Autoregression(**{**drawn, **fixed})


def newest(size: tuple[int, int] = MOTION, **fixed: np.ndarray) -> Autoregression:
    """Parameters that foretell the newest input again, with variance 1."""
    own = shapes(*size)
    flat = {name: np.zeros(own[name]) for name in ("attention", "spread", "spread_bias")}
    logits = np.where(np.arange(MEMORY) == 0, 0.0, -1e3)
    known = {"attention_bias": logits, "least": np.array(-12.0), **flat}
    return parameters(size=size, **{**known, **fixed})


def newest_looks(width: int, *, sha256: str = "", least: float = -20.0) -> RanWeights:
    """`newest` for boxes and for embeddings of a width, whose numbers count five times."""
    projection = Projection(
        matrix=5.0 * np.eye(width),
        centre=np.full(width, 0.1),
        embedder="small",
        embedder_sha256=sha256,
    )
    regression = newest((width, LOOK_HIDDEN), least=np.array(least))
    return RanWeights(motion=newest(), looks=Looks(regression=regression, projection=projection))


@cache
def weights_file() -> str:
    """Path of a file of `newest`, which lies there until the process ends."""
    folder = tempfile.mkdtemp(prefix="jde-ran-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "ran.safetensors"
    RanWeights(motion=newest()).save(path)
    return str(path)


def needed(association: str) -> dict[str, str]:
    """Settings without a default of an association."""
    return {"weights": weights_file()} if association == "ran" else {}

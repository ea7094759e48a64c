"""A learned autoregression of a track's changes, in numpy (Fang et al., WACV 2018: RAN).

A recurrent state (GRU) decides which of the last inputs the next one will be like, and how far from
it. The inputs are kept beside it, as an external memory: the prediction is a weighted mean of what
was seen. `models.motion.network` is the same in torch, and learns the parameters.

An input is the change of centre x, centre y, width and height from one box of a track to the next,
per frame, in twentieths of the earlier box's height.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NETWORK = "ran"  # value of the metadata `network`
INPUTS, MEMORY, HIDDEN = 4, 10, 32  # numbers of an input, inputs remembered, width of the state
UNIT = 1 / 20  # of the height; inputs are then near 1
NUMBERS = HIDDEN + MEMORY * INPUTS  # of a track
_LOG_TWO_PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, kw_only=True)
class Autoregression:
    """Parameters; the biases are ours, so that a track without a past has a learned variance too.

    Attributes:
        from_input: `(3 HIDDEN, INPUTS)` of the GRU, rows of reset, update and candidate.
        from_state: `(3 HIDDEN, HIDDEN)` of the GRU; it has no biases.
        attention: `(MEMORY, HIDDEN)` from the state to the logits of the remembered inputs.
        attention_bias: `(MEMORY,)`.
        spread: `(INPUTS, HIDDEN)` from the state to the logarithms of the variances.
        spread_bias: `(INPUTS,)`.
        least: `()` log density that 99 % of the true steps of the training exceeded.

    Raises:
        ValueError: If a shape is wrong or a number is not finite; one line.
    """

    from_input: Array
    from_state: Array
    attention: Array
    attention_bias: Array
    spread: Array
    spread_bias: Array
    least: Array

    def __post_init__(self) -> None:
        for name, shape in SHAPES.items():
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f"{name}: got shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name}: got a number that is not finite, expected finite")

    def predict(self, hidden: Array, memory: Array) -> tuple[Array, Array]:
        """Mean and logarithm of the variance of the next input.

        Args:
            hidden: `(HIDDEN, M)` states.
            memory: `(MEMORY, INPUTS, M)` last inputs, newest first, zeros before the first one.

        Returns:
            `(INPUTS, M)` and `(INPUTS, M)`.
        """
        logits = self.attention @ hidden + self.attention_bias[:, None]
        share = np.exp(logits - logits.max(axis=0))
        share /= share.sum(axis=0)
        mean = np.einsum("km,kim->im", share, memory)
        return mean, self.spread @ hidden + self.spread_bias[:, None]

    def take(self, hidden: Array, memory: Array, taken: Array) -> tuple[Array, Array]:
        """State and memory after the inputs `taken`, `(INPUTS, M)`; others as in `predict`."""
        reset_in, update_in, candidate_in = np.split(self.from_input @ taken, 3)
        reset_own, update_own, candidate_own = np.split(self.from_state @ hidden, 3)
        update = _sigmoid(update_in + update_own)
        candidate = np.tanh(candidate_in + _sigmoid(reset_in + reset_own) * candidate_own)
        fresh = candidate + update * (hidden - candidate)
        return fresh, np.concatenate([taken[None], memory[:-1]])

    def save(self, path: Path, notes: Mapping[str, str] | None = None) -> None:
        """Write the parameters as safetensors, with `notes` such as `licence` as metadata."""
        from safetensors.numpy import save_file

        arrays = {name: np.array(getattr(self, name), np.float32, order="C") for name in SHAPES}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, path, metadata={**(notes or {}), "network": NETWORK})


SHAPES: dict[str, tuple[int, ...]] = {
    "from_input": (3 * HIDDEN, INPUTS),
    "from_state": (3 * HIDDEN, HIDDEN),
    "attention": (MEMORY, HIDDEN),
    "attention_bias": (MEMORY,),
    "spread": (INPUTS, HIDDEN),
    "spread_bias": (INPUTS,),
    "least": (),
}
assert [field.name for field in fields(Autoregression)] == [*SHAPES]  # noqa: S101


def read(path: str | Path) -> Autoregression:
    """The parameters of a file.

    Raises:
        ValueError: If it is missing, no safetensors file, or of another network; one line.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not str(path) or not file.is_file():
        got = f"{path} is missing" if str(path) else "got none"
        text = "expected the weights.safetensors of `jde train` with `network: ran`"
        raise ValueError(f"tracking weights: {got}, {text}")
    try:
        with safe_open(file, "np") as content:
            kind = (content.metadata() or {}).get("network", "joint")
            if kind != NETWORK:
                raise ValueError(f"got a network of kind {kind}, expected {NETWORK}")
            held = {name: content.get_tensor(name) for name in SHAPES}
        return Autoregression(**{name: value.astype(np.float64) for name, value in held.items()})
    except (ValueError, SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"tracking weights: {path}: {reason}") from None


@lru_cache(maxsize=8)
def of_file(path: str) -> Autoregression:
    """As `read`, but once for a process and path."""
    return read(path)


def to_input(before: Array, after: Array, elapsed: Array | float) -> Array:
    """Inputs of changes of boxes.

    Args:
        before: `(4, ...)` centre x, centre y, width and height in pixels.
        after: The same, of any shape that fits.
        elapsed: Frames between the two.

    Returns:
        `(4, ...)`: changes per frame, in `UNIT` of the height before.
    """
    return np.asarray((after - before) / (UNIT * np.maximum(before[3], 1e-9) * elapsed))


def log_density(inputs: Array, mean: Array, log_variance: Array) -> Array:
    """Logarithm of the normal density, summed over the first axis (INPUTS); shapes broadcast."""
    squares = (inputs - mean) ** 2 * np.exp(-log_variance)
    return np.asarray(-0.5 * (squares + log_variance + _LOG_TWO_PI).sum(axis=0))


def _sigmoid(values: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values))

"""A learned autoregression of a track's inputs, in numpy (Fang et al., WACV 2018: RAN).

A recurrent state (GRU) decides which of the last inputs the next one will be like, and how far from
it. The inputs are kept beside it, as an external memory: the prediction is a weighted mean of what
was seen. `models.motion.network` is the same in torch, and learns the parameters.

Motion's input is the change of centre x, centre y, width and height from one box of a track to the
next, per frame, in twentieths of the earlier box's height. Appearance's is an embedding, see
`models.tracking.ran_weights`, which also reads and writes the file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MEMORY = 10  # inputs remembered
INPUTS, HIDDEN = 4, 32  # of motion: numbers of an input, width of the state
UNIT = 1 / 20  # of the height; inputs of motion are then near 1
NUMBERS = HIDDEN + MEMORY * INPUTS  # of a track's motion
_LOG_TWO_PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, kw_only=True)
class Autoregression:
    """Parameters; the biases are ours, so that a track without a past has a learned variance too.

    I is the number of numbers of an input and H the width of the state: `INPUTS` and `HIDDEN` for
    motion.

    Attributes:
        from_input: `(3 H, I)` of the GRU, rows of reset, update and candidate.
        from_state: `(3 H, H)` of the GRU; it has no biases.
        attention: `(MEMORY, H)` from the state to the logits of the remembered inputs.
        attention_bias: `(MEMORY,)`.
        spread: `(I, H)` from the state to the logarithms of the variances.
        spread_bias: `(I,)`.
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
        for name, shape in shapes(self.num_inputs, self.num_hidden).items():
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f"{name}: got shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name}: got a number that is not finite, expected finite")

    @property
    def num_inputs(self) -> int:
        """I."""
        return self.spread_bias.size

    @property
    def num_hidden(self) -> int:
        """H."""
        return self.attention.size // MEMORY

    @property
    def numbers(self) -> int:
        """Numbers that a track keeps."""
        return self.num_hidden + MEMORY * self.num_inputs

    def predict(self, hidden: Array, memory: Array) -> tuple[Array, Array]:
        """Mean and logarithm of the variance of the next input.

        Args:
            hidden: `(H, M)` states.
            memory: `(MEMORY, I, M)` last inputs, newest first, zeros before the first one.

        Returns:
            `(I, M)` and `(I, M)`.
        """
        logits = self.attention @ hidden + self.attention_bias[:, None]
        share = np.exp(logits - logits.max(axis=0))
        share /= share.sum(axis=0)
        mean = np.einsum("km,kim->im", share, memory)
        return mean, self.spread @ hidden + self.spread_bias[:, None]

    def take(self, hidden: Array, memory: Array, taken: Array) -> tuple[Array, Array]:
        """State and memory after the inputs `taken`, `(I, M)`; others as in `predict`."""
        reset_in, update_in, candidate_in = np.split(self.from_input @ taken, 3)
        reset_own, update_own, candidate_own = np.split(self.from_state @ hidden, 3)
        update = _sigmoid(update_in + update_own)
        candidate = np.tanh(candidate_in + _sigmoid(reset_in + reset_own) * candidate_own)
        fresh = candidate + update * (hidden - candidate)
        return fresh, np.concatenate([taken[None], memory[:-1]])

    def split(self, kept: Array) -> tuple[Array, Array]:
        """States and memories, as in `predict`, of the `(numbers, M)` numbers of tracks."""
        hidden, memory = kept[: self.num_hidden], kept[self.num_hidden :]
        return hidden, memory.reshape(MEMORY, self.num_inputs, kept.shape[1])

    def join(self, hidden: Array, memory: Array) -> Array:
        """Inverse of `split`."""
        columns = hidden.shape[1]
        return np.concatenate([hidden, memory.reshape(MEMORY * self.num_inputs, columns)])


def shapes(inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters for I inputs and H hidden numbers."""
    return {
        "from_input": (3 * hidden, inputs),
        "from_state": (3 * hidden, hidden),
        "attention": (MEMORY, hidden),
        "attention_bias": (MEMORY,),
        "spread": (inputs, hidden),
        "spread_bias": (inputs,),
        "least": (),
    }


NAMES = tuple(field.name for field in fields(Autoregression))
assert tuple(shapes(INPUTS, HIDDEN)) == NAMES  # noqa: S101


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
    """Logarithm of the normal density, summed over the first axis (I); shapes broadcast."""
    squares = (inputs - mean) ** 2 * np.exp(-log_variance)
    return np.asarray(-0.5 * (squares + log_variance + _LOG_TWO_PI).sum(axis=0))


def pair_density(inputs: Array, mean: Array, log_variance: Array) -> Array:
    """`log_density` of every one of `(I, N)` inputs under `(I, M)` normal distributions.

    Products of matrices take the place of `(I, M, N)` differences.

    Returns:
        `(M, N)`.
    """
    precision = np.exp(-log_variance)
    squares = precision.T @ inputs**2 - 2 * (mean * precision).T @ inputs
    constant = (mean**2 * precision + log_variance + _LOG_TWO_PI).sum(axis=0)
    return np.asarray(-0.5 * (squares + constant[:, None]))


def _sigmoid(values: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values))

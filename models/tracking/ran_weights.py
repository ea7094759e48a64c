"""What RAN has learned: an autoregression of motion, perhaps one of appearance, and their file.

The second one foretells the components of a track's next embedding
(`models.tracking.projection`) from those of its last ones. `jde train` writes the file
(`models.motion.network`); one without appearance tells motion alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jde_ray.models.tracking.autoregression import (
    HIDDEN,
    INPUTS,
    NAMES,
    Array,
    Autoregression,
    pair_density,
)
from jde_ray.models.tracking.projection import Projection

NETWORK = "ran"  # value of the metadata `network`
LOOK_HIDDEN = 128  # width of the state of appearance
_LOOKS, _MATRIX, _CENTRE = "looks.", "looks.matrix", "looks.centre"  # names in the file


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The autoregression of appearance.

    Attributes:
        regression: Its parameters. Its `least` is that of both likelihoods together, of motion and
            appearance.
        projection: From embeddings to its inputs.

    Raises:
        ValueError: If the projection has another number of components; one line.
    """

    regression: Autoregression
    projection: Projection

    def __post_init__(self) -> None:
        got, wanted = self.projection.num_components, self.regression.num_inputs
        if got != wanted:
            raise ValueError(f"projection: got {got} components, expected {wanted}")

    def likelihoods(self, kept: Array, inputs: Array, unknown: float) -> Array:
        """Log likelihoods of detections as the next ones of tracks.

        Args:
            kept: `(numbers, M)` states and memories of the tracks.
            inputs: `(K, N)` components of the detections' embeddings.
            unknown: What counts where the track or the detection has no embedding.

        Returns:
            `(M, N)`.
        """
        hidden, memory = self.regression.split(kept)
        total = pair_density(inputs, *self.regression.predict(hidden, memory))
        total[~memory[0].any(axis=0)] = unknown
        total[:, ~inputs.any(axis=0)] = unknown
        return total

    def take(self, kept: Array, inputs: Array) -> Array:
        """`(numbers, M)` states and memories after the inputs `(K, M)`; zeros change nothing."""
        after = self.regression.join(*self.regression.take(*self.regression.split(kept), inputs))
        return np.where(inputs.any(axis=0), after, kept)


@dataclass(frozen=True, kw_only=True)
class RanWeights:
    """The content of a file.

    Attributes:
        motion: Autoregression of the boxes.
        looks: That of the embeddings; None if it was not learned.
    """

    motion: Autoregression
    looks: Looks | None = None

    def save(self, path: Path, notes: Mapping[str, str] | None = None) -> None:
        """Write them as safetensors, with `notes` such as `licence` as metadata."""
        from safetensors.numpy import save_file

        held: dict[str, Array] = {name: getattr(self.motion, name) for name in NAMES}
        metadata = {**(notes or {}), "network": NETWORK}
        if (looks := self.looks) is not None:
            held |= {_LOOKS + name: getattr(looks.regression, name) for name in NAMES}
            held |= {_MATRIX: looks.projection.matrix, _CENTRE: looks.projection.centre}
            metadata["embedder"] = looks.projection.embedder
            metadata["embedder_sha256"] = looks.projection.embedder_sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.array(value, np.float32, order="C") for name, value in held.items()}
        save_file(arrays, path, metadata=metadata)


def read(path: str | Path) -> RanWeights:
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
            notes = content.metadata() or {}
            kind = notes.get("network", "joint")
            if kind != NETWORK:
                raise ValueError(f"got a network of kind {kind}, expected {NETWORK}")
            motion = _regression(content, "")
            has_looks = _MATRIX in list(content.keys())
            looks = _read_looks(content, notes) if has_looks else None
    except (ValueError, SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"tracking weights: {path}: {reason}") from None
    if (motion.num_inputs, motion.num_hidden) != (INPUTS, HIDDEN):
        got = f"got motion of {motion.num_inputs} inputs and {motion.num_hidden} hidden"
        raise ValueError(f"tracking weights: {path}: {got}, expected {INPUTS} and {HIDDEN}")
    return RanWeights(motion=motion, looks=looks)


@lru_cache(maxsize=8)
def of_file(path: str) -> RanWeights:
    """As `read`, but once for a process and path."""
    return read(path)


def _read_looks(content: Any, notes: Mapping[str, str]) -> Looks:
    projection = Projection(
        matrix=content.get_tensor(_MATRIX).astype(np.float64),
        centre=content.get_tensor(_CENTRE).astype(np.float64),
        embedder=notes.get("embedder", ""),
        embedder_sha256=notes.get("embedder_sha256", ""),
    )
    return Looks(regression=_regression(content, _LOOKS), projection=projection)


def _regression(content: Any, place: str) -> Autoregression:
    held = {name: content.get_tensor(place + name).astype(np.float64) for name in NAMES}
    return Autoregression(**held)

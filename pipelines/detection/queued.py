"""The JDE network on a GPU behind a queue: batches of several sources, two of them in flight."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.detection.model import (
    Embedded,
    FoundInFrame,
    Part,
    ReadingEmbedder,
    in_source_pixels,
)

if TYPE_CHECKING:
    from jde_ray.models.jde.gpu.runner import Runner
    from jde_ray.models.letterbox import Letterbox


class QueuedModel:
    """A network that several threads may ask at once: while one waits, the next batch goes up.

    Args:
        runner: Runs the network.
        embedder: The same network, which describes given boxes.
    """

    def __init__(self, runner: Runner, embedder: ReadingEmbedder) -> None:
        self._runner, self._embedder = runner, embedder
        self._lock = Lock()

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """Find people in the frames that are not padding; the runner fills its batch up itself."""
        (found,) = self.detect_parts([(frames, letterboxes)])
        if isinstance(found, Exception):
            raise found
        return found

    def detect_parts(
        self, parts: Sequence[Part]
    ) -> list[Sequence[FoundInFrame] | FloatingPointError]:
        """Find people in frames of several sources; those of one size share batches.

        Returns:
            Per part its frames' results in source pixels, or its error; no part depends on another.

        Raises:
            ValueError: If frames have another shape or type.
            MemoryError: If the device has no room for the smallest batch.
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, (frames, _) in enumerate(parts):
            places.setdefault(frames.shape[1:], []).append(place)
        pending = {
            shape: self._runner.submit([parts[place][0][: len(parts[place][1])] for place in own])
            for shape, own in places.items()
        }
        results: list[Sequence[FoundInFrame] | FloatingPointError] = [()] * len(parts)
        for shape, own in places.items():
            for place, found in zip(own, pending[shape].parts(), strict=True):
                if isinstance(found, FloatingPointError):
                    results[place] = found
                else:
                    results[place] = in_source_pixels(found, parts[place][1])
        return results

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """See `model.Embedder`."""
        with self._lock:  # it has one buffer
            return self._embedder.embed(frame, letterbox, tlbr)

    def read(
        self,
        frames: NDArray[np.uint8],
        letterboxes: Sequence[Letterbox],
        people: Sequence[FloatArray],
    ) -> tuple[Sequence[FoundInFrame], list[Embedded]]:
        """See `model.Reader`."""
        with self._lock:
            return self._embedder.read(frames, letterboxes, people)

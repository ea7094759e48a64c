"""A second look at each detection: a re-identification network beside the one that finds people.

A joint network describes people by what it sees of them at the size of its input, and by the scenes
of its training. A re-identification network was trained on many people in many places and looks at
each crop alone, so that it knows them again after a gap. Both vectors are kept, side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.detection.model import Embedder, FoundInFrame, FoundInSource, Model

if TYPE_CHECKING:
    from jde_ray.models.letterbox import Letterbox
    from jde_ray.models.sde.network import AppearanceEmbedder

_OWN, _SECOND = 0.6, 0.8  # shares of the two vectors; their squares sum to 1


class WithSecondLook:
    """A model whose embeddings are joined by those of a re-identification network.

    The crops are cut from the frames that the model is given, without their grey borders.

    Args:
        model: Model that finds people.
        embedder: The re-identification network.
    """

    def __init__(self, model: Model, embedder: AppearanceEmbedder) -> None:
        self._model, self._embedder = model, embedder

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """The model's detections, with both vectors of each."""
        found = self._model.detect(frames, letterboxes)
        return [
            FoundInSource(
                np.asarray(one.tlbr, np.float32),
                one.scores,
                joined(one.embeddings, self._look(frame, box, np.asarray(one.tlbr, np.float32))),
                one.num_capped,
            )
            for frame, box, one in zip(frames, letterboxes, found, strict=False)
        ]

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Both vectors of people whose boxes are known.

        Raises:
            ValueError: If the model cannot embed given boxes.
        """
        if not isinstance(self._model, Embedder):
            name = type(self._model).__name__
            raise ValueError(f"model: {name} cannot describe given boxes, expected shipped weights")
        own = self._model.embed(frame, letterbox, tlbr)
        return joined(own, self._look(frame, letterbox, tlbr))

    def _look(self, frame: NDArray[np.uint8], box: Letterbox, tlbr: FloatArray) -> FloatArray:
        (picture,) = box.pictures(frame[None])
        if not np.isfinite(tlbr).all():  # the caller refuses such boxes by their frame
            return np.zeros((len(tlbr), self._embedder.width), np.float32)
        return self._embedder.embed(picture, box.source_to_picture(tlbr))


def joined(own: FloatArray, second: FloatArray) -> FloatArray:
    """Two unit vectors of each person side by side, as one unit vector `(N, D1 + D2)`.

    A model without embeddings (D1 = 0) leaves the second ones as they are.
    """
    if not own.shape[1]:
        return second
    both: FloatArray = np.concatenate(
        (_OWN * np.asarray(own, np.float32), _SECOND * second), axis=1
    )
    return both

"""A second look at each detection: a re-identification network beside the one that finds people.

A joint network describes people by what it sees of them at the size of its input, and by the scenes
of its training. A re-identification network was trained on many people in many places and looks at
each crop alone, so that it knows them again after a gap. Both vectors are kept, side by side.
docs/decisions/0018-the-second-look.md has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import Described, FloatArray
from jde_ray.models.tracking.succession import clear_predecessors, likely_predecessors
from jde_ray.pipelines.detection.model import Embedder, FoundInFrame, FoundInSource, Model

if TYPE_CHECKING:
    from jde_ray.models.letterbox import Letterbox
    from jde_ray.models.sde.network import AppearanceEmbedder

KEY_FRAMES = 8  # all sure boxes of every n-th frame that is taken are looked at
OWN_SHARE = 0.2  # length of a model's own vector beside the other; squares of both sum to 1


@dataclass(frozen=True)
class _Seen:
    """Boxes of a frame whose second vectors are known: `(M, 4)`, `(M, D)`, and `(M,)` qualities."""

    tlbr: FloatArray
    vectors: FloatArray
    quality: FloatArray  # zeros if the network does not tell it


class WithSecondLook:
    """A model whose embeddings are joined by those of a re-identification network.

    The crops are cut from the frames that the model is given, without their grey borders.

    Args:
        model: Model that finds people.
        embedder: The re-identification network.
        only_needed: Look at all sure boxes of every `KEY_FRAMES`-th frame of a batch, the first one
            included, and between them only at those without a clear predecessor in the frame before
            (`models.tracking.succession`): people who appear, come back, jump or meet. The others
            keep the vector of their predecessor. The frames are then successive ones of a video,
            and batches must begin at multiples of `KEY_FRAMES`, so that nothing depends on them.
        least_score: Detections below this score are never looked at. They keep the vector of the
            box in the frame before that they overlap most, or have none.
    """

    def __init__(
        self,
        model: Model,
        embedder: AppearanceEmbedder,
        *,
        only_needed: bool = False,
        least_score: float = 0.0,
    ) -> None:
        self._model, self._embedder = model, embedder
        self._only_needed, self._least_score = only_needed, least_score

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """The model's detections, with both vectors of each."""
        found = self._model.detect(frames, letterboxes)
        nobody = np.zeros((0, 4), np.float32)
        nothing = before = _Seen(nobody, self._none(0), np.zeros(0, np.float32))
        results = []
        for place, (frame, box, one) in enumerate(zip(frames, letterboxes, found, strict=False)):
            is_key = not self._only_needed or place % KEY_FRAMES == 0
            result, before = self._look_again(frame, box, one, nothing if is_key else before)
            results.append(result)
        return results

    def _look_again(
        self, frame: NDArray[np.uint8], box: Letterbox, one: FoundInFrame, before: _Seen
    ) -> tuple[FoundInSource, _Seen]:
        """The detections of a frame with both vectors, and those whose second one is known."""
        tlbr = np.asarray(one.tlbr, np.float32)
        second, quality = self._none(len(tlbr)), np.zeros(len(tlbr), np.float32)
        is_sure = np.asarray(one.scores) >= self._least_score
        looked, known = is_sure.copy(), is_sure.copy()
        if len(before.tlbr):
            for rows, find in (
                (is_sure.nonzero()[0], clear_predecessors),
                ((~is_sure).nonzero()[0], likely_predecessors),
            ):
                predecessors = find(before.tlbr, tlbr[rows])
                has_one = predecessors >= 0
                second[rows[has_one]] = before.vectors[predecessors[has_one]]
                quality[rows[has_one]] = before.quality[predecessors[has_one]]
                looked[rows[has_one]], known[rows[has_one]] = False, True
        seen = self._look(frame, box, tlbr[looked])
        second[looked] = seen.vectors
        if seen.quality is not None:
            quality[looked] = seen.quality
        both = joined(one.embeddings, second)
        num_crops = int(np.count_nonzero(looked))
        told = None if seen.quality is None else quality
        found = FoundInSource(tlbr, one.scores, both, one.num_capped, num_crops, told)
        return found, _Seen(tlbr[known], second[known], quality[known])

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Both vectors of people whose boxes are known.

        Raises:
            ValueError: If the model cannot embed given boxes.
        """
        if not isinstance(self._model, Embedder):
            name = type(self._model).__name__
            raise ValueError(f"model: {name} cannot describe given boxes, expected shipped weights")
        own = self._model.embed(frame, letterbox, tlbr)
        return joined(own, self._look(frame, letterbox, tlbr).vectors)

    def _none(self, number: int) -> NDArray[np.float32]:
        return np.zeros((number, self._embedder.width), np.float32)

    def _look(self, frame: NDArray[np.uint8], box: Letterbox, tlbr: FloatArray) -> Described:
        (picture,) = box.pictures(frame[None])
        if not np.isfinite(tlbr).all():  # the caller refuses such boxes by their frame
            return Described(self._none(len(tlbr)))
        return self._embedder.describe(picture, box.source_to_picture(tlbr))


def joined(own: FloatArray, second: FloatArray, own_share: float = OWN_SHARE) -> FloatArray:
    """Two unit vectors of each person side by side, as one unit vector `(N, D1 + D2)`.

    A model without embeddings (D1 = 0) leaves the second ones as they are. Without a second vector
    (zeros) a person's own counts alone.

    Args:
        own: `(N, D1)` vectors of the model.
        second: `(N, D2)` vectors of the re-identification network.
        own_share: Length of the model's part.
    """
    if not own.shape[1]:
        return second
    share = np.where(second.any(axis=1), np.float32(own_share), np.float32(1))[:, None]
    other = np.float32(math.sqrt(1 - own_share**2))
    both: FloatArray = np.concatenate((share * np.asarray(own, np.float32), other * second), axis=1)
    return both

"""What the pipeline needs of a network that finds people, whatever kind it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray

if TYPE_CHECKING:
    from jde_ray.models.letterbox import Letterbox


class FoundInFrame(Protocol):
    """Detections of one frame."""

    @property
    def tlbr(self) -> FloatArray:
        """`(N, 4)` corners."""
        ...

    @property
    def scores(self) -> FloatArray:
        """`(N,)` confidence."""
        ...

    @property
    def embeddings(self) -> FloatArray:
        """`(N, D)`, L2-normalised."""
        ...

    @property
    def num_capped(self) -> int:
        """Number of detections that `max_detections` left out."""
        ...


class Model(Protocol):
    """Finds people in letterboxed frames."""

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """Find people in the first n frames.

        Args:
            frames: `(T, H, W, 3)` uint8 RGB, read-only. Those after the first n are padding: a
                network may process them, so that its arithmetic does not depend on n.
            letterboxes: How each of the n <= T frames was made from its source; at least one.

        Returns:
            n results in source pixels. The caller refuses results that are not finite.

        Raises:
            FloatingPointError: If the output is not finite.
        """
        ...


# frames of one source, `(T, H, W, 3)`, and how each of the first n <= T was made, as in `Model`
Part = tuple[NDArray[np.uint8], Sequence["Letterbox"]]


@runtime_checkable
class QueueingModel(Model, Protocol):
    """A model that several threads may ask at once, with frames of several sources in one batch."""

    def detect_parts(
        self, parts: Sequence[Part]
    ) -> Sequence[Sequence[FoundInFrame] | FloatingPointError]:
        """Results as of `detect` per part, or its error, which concerns no other part."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A model that also embeds people whose boxes are known; runs do not need this."""

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Embed people in a frame.

        Args:
            frame: `(H, W, 3)` uint8 RGB, letterboxed.
            letterbox: How it was made from its source.
            tlbr: `(N, 4)` corners in source pixels.

        Returns:
            `(N, D)` L2-normalised vectors; zeros where the model finds no person.

        Raises:
            ValueError: If the weights hold no embedder.
        """
        ...


Embedded = tuple[IntArray, FloatArray]  # `(K,)` numbers of people, `(K, D)` vectors of length 1


@runtime_checkable
class Reader(Protocol):
    """A model that reads embeddings of people in a batch, as its authors evaluate it."""

    def read(
        self,
        frames: NDArray[np.uint8],
        letterboxes: Sequence[Letterbox],
        people: Sequence[FloatArray],
    ) -> tuple[Sequence[FoundInFrame], list[Embedded]]:
        """Find people, and embed those whose boxes are known, in one pass.

        Args:
            frames: As in `Model.detect`.
            letterboxes: Likewise, n of them.
            people: `(N, 4)` corners in source pixels, for each of the n frames.

        Returns:
            The n results of `detect`, and for each frame the numbers of the people whom the
            network sees and their vectors. A person may have several.

        Raises:
            FloatingPointError: If the output is not finite.
        """
        ...


class ReadingEmbedder(Embedder, Reader, Protocol):
    """A model that embeds people whose boxes are known in either way."""


@dataclass(frozen=True)
class FoundInSource:
    """Detections of one frame in source pixels.

    Attributes:
        tlbr: `(N, 4)` float32 corners.
        scores: `(N,)` confidence.
        embeddings: `(N, D)`, L2-normalised.
        num_capped: Detections that `max_detections` left out.
        num_crops: Boxes that a re-identification network looked at; other models need not say it.
        quality: `(N,)` quality of the pictures behind the embeddings, 0 where there is none; None
            if the network does not tell it. Other models need not have it.
    """

    tlbr: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    num_capped: int
    num_crops: int = 0
    quality: FloatArray | None = None

    @staticmethod
    def of(found: FoundInFrame, to_source: Callable[[FloatArray], FloatArray]) -> FoundInSource:
        """Detections whose corners are in other pixels, mapped by `to_source`.

        Corners that are not finite are not mapped, since that would clamp -Inf to the frame.
        """
        tlbr = np.asarray(found.tlbr, np.float32)
        mapped = to_source(tlbr) if np.isfinite(tlbr).all() else tlbr
        quality = getattr(found, "quality", None)
        return FoundInSource(
            mapped, found.scores, found.embeddings, found.num_capped, quality=quality
        )


def in_source_pixels(
    found: Sequence[FoundInFrame], letterboxes: Sequence[Letterbox]
) -> list[FoundInSource]:
    """Map detections of T frames from network to source pixels; only n <= T have letterboxes."""
    return [
        FoundInSource.of(one, box.to_source)
        for one, box in zip(found[: len(letterboxes)], letterboxes, strict=True)
    ]

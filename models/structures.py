"""Values shared by all modules: detections of a frame and tracks of a frame. Imports only numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]

# A tracker's complete state by name: only numbers and fixed-width text, so that npz and Arrow can
# store it without pickle.
TrackerState = dict[str, NDArray[Any]]


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    if array.shape == shape:
        return
    fits = array.ndim == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name}: got shape {array.shape}, expected {wanted}")


def check_frames(frames: Any) -> None:
    """Refuse anything but a batch of letterboxed frames.

    Args:
        frames: Array or tensor, expected to be `(T, H, W, 3)` uint8 RGB with H and W multiples of
            32.

    Raises:
        ValueError: If it is not, naming its type and shape.
    """
    shape, kind = tuple(frames.shape), str(frames.dtype).removeprefix("torch.")
    fits = len(shape) == 4 and shape[3] == 3 and all(n and not n % 32 for n in shape[1:3])
    if not fits or kind != "uint8":
        raise ValueError(
            f"frames: got {kind} of shape {shape}, expected uint8 from 0 to 255 of shape "
            "(T, H, W, 3) with H and W multiples of 32"
        )


@dataclass(frozen=True)
class Detections:
    """People found in one frame.

    Attributes:
        tlbr: `(N, 4)` float32 corners x1, y1, x2, y2 in source pixels (after display rotation).
        scores: `(N,)` float32 detector confidence in [0, 1].
        embeddings: `(N, D)` L2-normalised appearance vectors; D may be 0.
        quality: `(N,)` float32 quality of the pictures that the vectors were made of, 0 or more;
            None if the network does not tell it (most do not), and all count alike.

    Raises:
        ValueError: If the lengths or shapes disagree.
    """

    tlbr: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    quality: FloatArray | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        _check_shape("scores", self.scores, (count,))
        _check_shape("tlbr", self.tlbr, (count, 4))
        if self.embeddings.ndim != 2 or len(self.embeddings) != count:
            _check_shape("embeddings", self.embeddings, (count, None))
        if self.quality is not None:
            _check_shape("quality", self.quality, (count,))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: slice | NDArray[Any]) -> Detections:
        quality = None if self.quality is None else self.quality[index]
        return Detections(self.tlbr[index], self.scores[index], self.embeddings[index], quality)

    def __repr__(self) -> str:
        return f"Detections(N={len(self)}, D={self.embeddings.shape[1]})"

    @staticmethod
    def empty(embedding_dim: int) -> Detections:
        """No detections: arrays of shape `(0, 4)`, `(0,)`, `(0, embedding_dim)`."""
        return Detections(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, embedding_dim), np.float32),
        )


class Described(NamedTuple):
    """What an embedder says of N pictures of people.

    Attributes:
        vectors: `(N, D)` L2-normalised appearance vectors; zeros where there is no picture.
        quality: `(N,)` quality of each picture, 0 where there is none; None if the network does not
            tell it.
    """

    vectors: FloatArray
    quality: FloatArray | None = None


class Track(NamedTuple):
    """One tracked person in one frame: a row of `Tracks`."""

    track_id: int
    tlbr: FloatArray
    score: float


@dataclass(frozen=True)
class Tracks:
    """Tracked people of one frame, in the tracker's order; iterating yields `Track` rows.

    Attributes:
        track_id: `(M,)` int64, 1, 2, ... unique within a video.
        tlbr: `(M, 4)` float64 corners in source pixels.
        score: `(M,)` float32 confidence of the detection last matched.
        detection_index: `(M,)` int64 row of this frame's detections that each track matched.

    Raises:
        ValueError: If the lengths or shapes disagree.
    """

    track_id: IntArray
    tlbr: FloatArray
    score: FloatArray
    detection_index: IntArray

    def __post_init__(self) -> None:
        count = len(self.track_id)
        _check_shape("track_id", self.track_id, (count,))
        _check_shape("tlbr", self.tlbr, (count, 4))
        _check_shape("score", self.score, (count,))
        _check_shape("detection_index", self.detection_index, (count,))

    def __len__(self) -> int:
        return len(self.track_id)

    def __getitem__(self, index: slice | NDArray[Any]) -> Tracks:
        return Tracks(
            self.track_id[index], self.tlbr[index], self.score[index], self.detection_index[index]
        )

    def __iter__(self) -> Iterator[Track]:
        for track_id, tlbr, score in zip(self.track_id, self.tlbr, self.score, strict=True):
            yield Track(int(track_id), tlbr, float(score))

    def __repr__(self) -> str:
        return f"Tracks(M={len(self)})"

    @staticmethod
    def empty() -> Tracks:
        """No tracks: arrays of length 0."""
        return Tracks(
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float64),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
        )

    def to_mot(self, frame_index: int) -> list[str]:
        """Lines of MOTChallenge text, in which frames, ids and pixels count from 1.

        Args:
            frame_index: 0-based frame number.
        """
        return [
            f"{frame_index + 1},{t.track_id},{t.tlbr[0] + 1:.2f},{t.tlbr[1] + 1:.2f},"
            f"{t.tlbr[2] - t.tlbr[0]:.2f},{t.tlbr[3] - t.tlbr[1]:.2f},{t.score:.4f},-1,-1,-1"
            for t in self
        ]

    def to_arrow(self) -> pa.Table:
        """Table with columns `track_id`, `x1`, `y1`, `x2`, `y2`, `score` (needs pyarrow)."""
        import pyarrow as pa

        corners = self.tlbr.astype(np.float32)
        columns: dict[str, NDArray[Any]] = {"track_id": self.track_id.astype(np.int32)}
        columns |= {name: corners[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
        columns["score"] = self.score.astype(np.float32)
        return pa.table(columns)

    def to_supervision(self) -> Any:
        """`supervision.Detections` with `tracker_id` (needs `pip install supervision`)."""
        import supervision

        return supervision.Detections(
            xyxy=self.tlbr.astype(np.float32),
            confidence=self.score.astype(np.float32),
            class_id=np.zeros(len(self), int),
            tracker_id=self.track_id.astype(int),
        )

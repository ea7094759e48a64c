"""People whose boxes are known, on frames that a network is run on, and what it gives there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.structures import FrameChunk, Video

_NOBODY = BoxRows.empty()


@dataclass(frozen=True)
class LabelledFrames:
    """Frames of one video, or pictures of one list, and the people in them.

    Attributes:
        name: Name of the sequence or list; it differs from all others of a call.
        people: Their boxes. Corners are in source pixels in a video; in a picture they are shares
            of its width and height, since its size is known only when it is read.
        video: The video, which is decoded as `jde track` decodes it; None for pictures.
        pictures: Paths of the pictures; the number of a frame is its place here.

    Raises:
        ValueError: If there is both a video and pictures, or neither.
    """

    name: str
    people: BoxRows
    video: Video | None = None
    pictures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.video is None) != bool(self.pictures):
            got = f"got {self.video} and {len(self.pictures)} pictures"
            raise ValueError(f"{self.name}: {got}, expected a video or pictures")

    @property
    def key(self) -> str:
        """Name of the set in chunks of frames."""
        return self.name if self.video is None else self.video.video_id


def of_frames(people: BoxRows, frames: IntArray) -> list[BoxRows]:
    """The rows of each of some frames.

    Args:
        people: Rows of any frames, in any order.
        frames: `(n,)` numbers of frames.
    """
    order = np.argsort(people.frame, kind="stable")
    sorted_frames = people.frame[order]
    first = np.searchsorted(sorted_frames, frames, "left")
    last = np.searchsorted(sorted_frames, frames, "right")
    return [people[order[low:high]] for low, high in zip(first, last, strict=True)]


@dataclass(frozen=True)
class Readings:
    """What a network gave on frames of one set.

    Attributes:
        sizes: `(F, 3)` int64: number, width and height of each frame that was read.
        found: Detections in source pixels; ids are their ranks in the frame.
        scores: `(n,)` scores of `found`.
        known: People whose embedding was read, in source pixels; a network of the published layout
            may have up to three embeddings of one person (`models.jde.person_cells`).
        vectors: `(k, D)` float16, L2-normalised, of `known`.
        error: Why the frames end here; None if they do not.
    """

    sizes: IntArray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    found: BoxRows = _NOBODY
    scores: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    known: BoxRows = _NOBODY
    vectors: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    error: VideoError | None = None

    def __post_init__(self) -> None:
        counts = (len(self.found), len(self.known))
        if (len(self.scores), len(self.vectors)) != counts or self.sizes.shape[1:] != (3,):
            got = (self.sizes.shape, self.scores.shape, self.vectors.shape)
            raise ValueError(f"readings: got shapes {got} for {counts} boxes and people")

    @staticmethod
    def joined(parts: Iterable[Readings]) -> Readings:
        """The readings of all parts in the order of their frames."""
        parts = [Readings(), *parts]
        vectors = [one.vectors for one in parts if len(one.vectors)]
        whole = Readings(
            np.concatenate([one.sizes for one in parts]),
            BoxRows.concatenate([one.found for one in parts]),
            np.concatenate([one.scores for one in parts]),
            BoxRows.concatenate([one.known for one in parts]),
            np.concatenate(vectors) if vectors else parts[0].vectors,
            next((one.error for one in parts if one.error is not None), None),
        )
        found, known = (
            np.argsort(rows.frame, kind="stable") for rows in (whole.found, whole.known)
        )
        return Readings(
            whole.sizes[np.argsort(whole.sizes[:, 0], kind="stable")],
            whole.found[found],
            whole.scores[found],
            whole.known[known],
            whole.vectors[known],
            whole.error,
        )


def read_chunk(detector: Detector, chunk: FrameChunk, people: Sequence[BoxRows]) -> Readings:
    """Detections in a chunk of frames, and the embeddings of its people.

    Args:
        detector: The loaded network.
        chunk: Frames; an error of the chunk is passed on.
        people: People of each frame, in source pixels.
    """
    if chunk.error is not None:
        return Readings(error=chunk.error)
    try:
        found, embedded = detector.read(chunk, [rows.tlbr for rows in people])
    except VideoError as error:
        return Readings(error=error)
    size = np.tile([0, chunk.info.width, chunk.info.height], (len(chunk.frame_index), 1))
    size[:, 0] = chunk.frame_index
    counts = [len(one) for one in found]
    vectors = [vectors for _, vectors in embedded if len(vectors)]
    return Readings(
        size,
        BoxRows(
            np.repeat(chunk.frame_index, counts),
            np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)]),
            np.concatenate([np.zeros((0, 4)), *(one.tlbr for one in found)]),
        ),
        np.concatenate([np.zeros(0, np.float32), *(one.scores for one in found)]),
        BoxRows.concatenate(
            [_NOBODY, *(rows[who] for rows, (who, _) in zip(people, embedded, strict=True))]
        ),
        np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float16),
    )

"""Detections of one frame prepared for association: checked, in columns, unit embeddings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jde_ray.models.half_floats import to_single
from jde_ray.models.structures import Detections, FloatArray


@dataclass(slots=True)
class Frame:
    """N usable detections of one frame.

    Attributes:
        xyah: `(4, N)` float64 Kalman measurements.
        tlbr: `(4, N)` float64 corners in pixels.
        scores: `(N,)`.
        embeddings: `(N, D)` float32, L2-normalised (zero vectors stay zero).
        source: `(N,)` rows of the caller's arrays; None if all are usable.
        num_degenerate: Boxes left out because they have no area.
        quality: `(N,)` float32 quality of the pictures behind the embeddings; None if unknown.
    """

    xyah: NDArray[np.float64]
    tlbr: NDArray[np.float64]
    scores: FloatArray
    embeddings: NDArray[np.float32]
    source: NDArray[np.intp] | None = None
    num_degenerate: int = 0
    quality: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)


class Step(NamedTuple):
    """The time of a frame, in frames at the nominal rate.

    Attributes:
        now: Time of this frame, 1 for the first one; in mode `published` the frame's number.
        dt: Time since the last frame.
        max_lost: Time after which an unmatched track is forgotten.
        frames_per_second: Nominal rate.
    """

    now: float
    dt: float
    max_lost: float
    frames_per_second: float


def build_frame(
    boxes: ArrayLike,
    scores: ArrayLike,
    embeddings: ArrayLike | None,
    least_score: float = 0.0,
    quality: ArrayLike | None = None,
) -> Frame:
    """Check the arrays of one frame and arrange them in columns.

    Args:
        boxes: `(N, 4)` tlbr in pixels. Without detections the arrays may be empty in any shape.
        scores: `(N,)` in [0, 1].
        embeddings: `(N, D)` vectors of any length; None means D = 0.
        least_score: Detections below this score are left out.
        quality: `(N,)` qualities of the pictures behind the embeddings; None if they are unknown.

    Raises:
        ValueError: If shapes disagree, a number is not finite, a score is outside [0, 1], or a
            quality below 0.
    """
    boxes = _as_float(boxes)
    scores = _as_float(scores)
    looks = np.zeros((len(scores) if scores.ndim else 0, 0)) if embeddings is None else embeddings
    embeddings = np.asarray(looks, np.float32)
    if not (scores.size or boxes.size or embeddings.size):
        width = embeddings.shape[1] if embeddings.ndim == 2 else 0
        boxes, scores = np.zeros((0, 4), boxes.dtype), scores.reshape(0)
        embeddings = np.zeros((0, width), np.float32)
    count = scores.shape[0] if scores.ndim == 1 else -1
    if boxes.shape != (count, 4) or embeddings.ndim != 2 or len(embeddings) != count:
        raise ValueError(
            f"detections: got {boxes.shape = }, {scores.shape = }, {embeddings.shape = }, "
            "expected (N, 4), (N,), (N, D)"
        )
    lowest = scores.min() if count else 1.0
    if count and not (lowest >= 0 and scores.max() <= 1):
        if not np.isfinite(scores).all():
            _refuse("scores", scores)
        row = np.flatnonzero((scores < 0) | (scores > 1))[0]
        raise ValueError(f"scores: got {scores[row]:g} in row {row}, expected 0 to 1")
    told = None if quality is None else _qualities(quality, count)
    squares = np.vecdot(embeddings, embeddings)
    if not math.isfinite(squares.dot(squares)):
        _refuse("embeddings", embeddings)
    size, tlbr = _columns(boxes)
    if not math.isfinite(np.vdot(tlbr, tlbr)):
        _refuse("boxes", boxes)
    source, num_degenerate = None, 0
    if count and not (size.min() > 0 and lowest >= least_score):
        solid = np.all(size > 0, axis=0)
        num_degenerate = count - int(np.count_nonzero(solid))
        if size.min() < 0:
            _warn_of_corners(int(np.count_nonzero((size < 0).any(axis=0))), count)
        source = np.flatnonzero(solid & (scores >= least_score))
        size, tlbr = size[:, source], tlbr[:, source]
        scores, embeddings, squares = scores[source], embeddings[source], squares[source]
        told = None if told is None else told[source]
    unit = _normalised(embeddings, squares)
    return Frame(_measurements(size, tlbr), tlbr, scores, unit, source, num_degenerate, told)


def build_frames(found: Sequence[Detections], least_score: float = 0.0) -> list[Frame] | None:
    """Like `build_frame`, for successive frames at once: many cost little more than one.

    Args:
        found: Detections of each frame; float16 embeddings are widened to float32.
        least_score: Lowest score that every detection must have.

    Returns:
        The same frames as of `build_frame`; None if one needs its closer look: a detection that is
        left out or refused, or frames without any.
    """
    counts = [len(one) for one in found]
    widths = {one.embeddings.shape[1] for one in found}
    if not sum(counts) or len(widths) != 1:
        return None
    boxes = _as_float(np.concatenate([one.tlbr for one in found]))
    scores = _as_float(np.concatenate([one.scores for one in found]))
    looks = np.concatenate([one.embeddings for one in found])
    embeddings = to_single(looks) if looks.dtype == np.float16 else looks.astype(np.float32)
    squares = np.vecdot(embeddings, embeddings)
    size, tlbr = _columns(boxes)
    is_finite = math.isfinite(squares.dot(squares)) and math.isfinite(np.vdot(tlbr, tlbr))
    lowest = max(0.0, least_score)
    if not (is_finite and size.min() > 0 and scores.min() >= lowest and scores.max() <= 1):
        return None
    qualities = [one.quality for one in found if one.quality is not None]
    told = np.concatenate(qualities).astype(np.float32) if qualities else None
    if told is not None and not (len(told) == len(scores) and _is_quality(told)):
        return None
    xyah, unit = _measurements(size, tlbr), _normalised(embeddings, squares)
    frames, start = [], 0
    for count in counts:
        own = slice(start, start + count)
        start += count
        frame = Frame(xyah[:, own].copy(), tlbr[:, own].copy(), scores[own], unit[own])
        frame.quality = None if told is None else told[own]
        frames.append(frame)
    return frames


def _columns(boxes: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(2, N)` widths and heights, and `(4, N)` corners."""
    # sizes in the input's precision, like the original, since they affect the last digits
    size = (boxes[:, 2:] - boxes[:, :2]).T.astype(np.float64, order="C")
    return size, boxes.T.astype(np.float64, order="C")


def _measurements(size: NDArray[np.float64], tlbr: NDArray[np.float64]) -> NDArray[np.float64]:
    xyah = np.empty_like(tlbr)
    centre = xyah[:2]
    np.multiply(size, 0.5, out=centre)
    centre += tlbr[:2]
    np.divide(size[0], size[1], out=xyah[2])
    xyah[3] = size[1]
    return xyah


def _warn_of_corners(wrong: int, count: int) -> None:
    warnings.warn(
        f"boxes: {wrong} of {count} end before they begin and are left out, expected "
        "x1, y1, x2, y2 (no width and height)",
        stacklevel=4,  # points to the caller of the tracker
    )


def _as_float(values: ArrayLike) -> FloatArray:
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _qualities(values: ArrayLike, count: int) -> NDArray[np.float32]:
    quality = np.asarray(values, np.float32)
    if quality.shape != (count,) and (quality.size or count):
        raise ValueError(f"quality: got shape {quality.shape}, expected ({count},)")
    if not _is_quality(quality):
        row = np.flatnonzero(~(np.isfinite(quality) & (quality >= 0)))[0]
        raise ValueError(f"quality: got {quality[row]:g} in row {row}, expected 0 or more")
    return quality.reshape(count)


def _is_quality(values: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all())


def _refuse(name: str, values: FloatArray) -> None:
    rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    where = f"row {rows[0]}" if len(rows) else "a sum that overflows"
    raise ValueError(f"{name}: got a number that is not finite in {where}, expected finite")


def _normalised(
    embeddings: NDArray[np.float32], squares: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Copy of `(N, D)` vectors at unit length, given their squared lengths `(N,)`."""
    norms = np.sqrt(squares)
    if np.count_nonzero(norms) < len(norms):
        norms[norms == 0] = 1
    unit: NDArray[np.float32] = embeddings * np.reciprocal(norms)[:, None]
    return unit

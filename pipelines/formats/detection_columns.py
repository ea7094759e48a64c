"""Columns of `detections/*.parquet` as arrays, and checks that they hold what a run writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jde_ray.models.structures import Detections
from jde_ray.pipelines.formats.limits import MOST_FRAMES, MOST_PIXELS
from jde_ray.pipelines.formats.parquet_file import vectors_of

# lists around the numbers of a column, or around the bytes of an embedding
_DEPTHS = {"frame": 0, "time_s": 0, "camera_motion": 1, "boxes": 2, "scores": 1, "qualities": 1}
_DEPTHS["embeddings"] = 1


@dataclass(frozen=True)
class DetectionColumns:
    """Columns of F frames with n detections in all, in the file's precision.

    Attributes:
        frame: `(F,)` 0-based frame numbers.
        counts: `(F,)` detections per frame.
        tlbr: `(n, 4)` float32.
        scores: `(n,)` float32.
        embeddings: `(n, D)` float16; D is 0 if the file stores none.
        motion: `(F, 2, 3)` float64 motion of the camera; None if the file stores none.
        quality: `(n,)` float32; None if the file stores none.
    """

    frame: NDArray[np.int32]
    counts: NDArray[np.int32]
    tlbr: NDArray[np.float32]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float16]
    motion: NDArray[np.float64] | None
    quality: NDArray[np.float32] | None

    def detections(self, own: slice) -> Detections:
        """Those in a range of the n."""
        quality = None if self.quality is None else self.quality[own]
        return Detections(self.tlbr[own], self.scores[own], self.embeddings[own], quality)


def check_schema(file: str, schema: pa.Schema, wanted: Sequence[str]) -> None:
    """Refuse a file that lacks a column, or has one of another kind than runs write.

    Args:
        file: Its name, for the error.
        schema: Its Arrow schema.
        wanted: Columns that it must have.

    Raises:
        ValueError: Naming the column.
    """
    for name in wanted:
        if name not in schema.names:
            raise ValueError(f"{file}: no column {name}, expected {', '.join(wanted)}")
    for name in filter(_DEPTHS.__contains__, schema.names):
        kind = schema.field(name).type
        if not _is_as_written(name, kind):
            raise ValueError(f"{file}: {name}: got a column of {kind}, expected what a run writes")


def _is_as_written(name: str, kind: pa.DataType) -> bool:
    types = pa.types
    for _ in range(_DEPTHS[name]):
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return False
        kind = kind.value_type
    if name == "embeddings":
        return bool(types.is_fixed_size_binary(kind) or types.is_binary(kind))
    return bool(types.is_integer(kind) or types.is_floating(kind))


def read_columns(columns: Mapping[str, pa.Array], file: str, first: int = 0) -> DetectionColumns:
    """The numbers of some columns of a file, by name.

    Args:
        columns: The columns, of kinds that `check_schema` accepts.
        file: Name of the file, for errors.
        first: Row of the file in which the columns begin.

    Raises:
        ValueError: If a row lacks a value, or has numbers of boxes, scores and embeddings that
            differ.
    """
    own = {name: columns[name] for name in _DEPTHS if name in columns}
    for name, column in own.items():
        if column.null_count:
            row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise ValueError(f"{file}: row {row}: {name}: got no value, expected one in each row")
    counts = _counts_of(columns["scores"])
    for name in own.keys() & {"boxes", "embeddings", "qualities"}:
        differs = np.flatnonzero(_counts_of(columns[name]) != counts)
        if len(differs):
            row = int(differs[0])
            raise ValueError(
                f"{file}: row {first + row}: got {_counts_of(columns[name])[row]} {name},"
                f" expected {counts[row]}, as many as scores"
            )
    scores = columns["scores"].flatten().to_numpy(zero_copy_only=False)
    embeddings = np.zeros((len(scores), 0), np.float16)
    if "embeddings" in columns:  # a detector without embedder saves none
        embeddings = vectors_of(columns["embeddings"].flatten())
    motion = None
    if "camera_motion" in columns:
        values = columns["camera_motion"].flatten().to_numpy(zero_copy_only=False)
        motion = _in_rows(file, "camera_motion", values, len(counts), 6).reshape(-1, 2, 3)
    quality = None
    if "qualities" in columns:  # most networks tell none
        quality = columns["qualities"].flatten().to_numpy(zero_copy_only=False)
    corners = columns["boxes"].flatten().flatten().to_numpy(zero_copy_only=False)
    tlbr = _in_rows(file, "boxes", corners, len(scores), 4)
    frame = columns["frame"].to_numpy()
    return DetectionColumns(frame, counts, tlbr, scores, embeddings, motion, quality)


def _counts_of(lists: pa.Array) -> NDArray[np.int32]:
    counts: NDArray[np.int32] = lists.value_lengths().to_numpy()
    return counts


def _in_rows(file: str, name: str, values: NDArray[Any], count: int, width: int) -> NDArray[Any]:
    if len(values) != count * width:
        raise ValueError(
            f"{file}: {name}: got {len(values)} numbers, expected {width} for each of {count}"
        )
    return values.reshape(-1, width)


def check_values(
    columns: DetectionColumns,
    times: NDArray[np.float64],
    file: str,
    first: int = 0,
    before: tuple[float, float] = (-1.0, -np.inf),
) -> None:
    """Refuse values that no run writes, and over which an association would stumble.

    Args:
        columns: Successive rows of a file.
        times: `(F,)` their seconds.
        file: Name of the file, for errors.
        first: Row of the file in which the columns begin.
        before: Frame and seconds of the row before.

    Raises:
        ValueError: Naming the row and the value.
    """
    frame, tlbr, scores = columns.frame, columns.tlbr, columns.scores
    rows = np.arange(first, first + len(frame))
    of_found = np.repeat(rows, columns.counts)  # row of each detection
    is_next = frame > np.concatenate([[before[0]], frame[:-1]])
    is_frame = is_next & (frame == np.floor(frame)) & (frame < MOST_FRAMES)
    _check(is_frame, frame, rows, file, "frame", f"rising frames, 0 to {MOST_FRAMES - 1}")
    is_time = np.isfinite(times) & (times >= np.concatenate([[before[1]], times[:-1]]))
    _check(is_time, times, rows, file, "time_s", "finite seconds that do not fall")
    is_score = (scores >= 0) & (scores <= 1)
    _check(is_score, scores, of_found, file, "scores", "0 to 1")
    is_box = np.all(np.abs(tlbr) < MOST_PIXELS, axis=1)
    _check(is_box, tlbr, of_found, file, "boxes", "finite corners")
    if columns.quality is not None:
        is_quality = (columns.quality >= 0) & np.isfinite(columns.quality)
        _check(is_quality, columns.quality, of_found, file, "qualities", "finite, 0 or more")
    if columns.motion is not None:
        motion = columns.motion
        is_small = (np.abs(motion) < MOST_PIXELS).all(axis=(1, 2))
        with np.errstate(all="ignore"):  # of numbers that are not small
            has_inverse = motion[:, 0, 0] * motion[:, 1, 1] != motion[:, 0, 1] * motion[:, 1, 0]
        _check(is_small & has_inverse, motion, rows, file, "camera_motion", "a map with an inverse")


def _check(
    is_right: NDArray[np.bool_],
    values: NDArray[Any],
    rows: NDArray[np.int64],
    file: str,
    name: str,
    expected: str,
) -> None:
    """Refuse the first value that is wrong, with its row."""
    if not is_right.all():
        place = int(np.argmin(is_right))
        got = ", ".join(f"{value:.9g}" for value in np.ravel(values[place]).tolist())
        raise ValueError(f"{file}: row {rows[place]}: {name}: got {got}, expected {expected}")

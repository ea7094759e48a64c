"""What counting reads of a file of `tracks/`: its sightings, and which camera saw them when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.formats.tracks import file_name
from jde_ray.pipelines.formats.video_columns import check_columns
from jde_ray.pipelines.names import sequence_name

_WANTED = ("frame", "track_id", "x1", "y1", "x2", "y2", "time_s")
_LONGEST_S = 3e9
_YEARS = (1900, 2500)  # of clocks that may be wrong but can be shown
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Origin:
    """Where the rows of a file come from.

    Attributes:
        camera: Name of the camera; if the file does not say, that of the video's file without its
            suffix.
        start_us: When the video began, in microseconds since 1970 in UTC; None if unknown.
        folder: Folder of the video if the camera is only its file's name; else empty.
    """

    camera: str
    start_us: int | None
    folder: str = ""


@dataclass(frozen=True)
class Sightings:
    """Rows of a file in its order.

    Attributes:
        video: URI of the video; empty if the file does not say.
        rows: Frames, ids and boxes.
        time_s: `(n,)` times in seconds.
    """

    video: str
    rows: BoxRows
    time_s: NDArray[np.float64]


def read_origin(file: pq.ParquetFile, video_id: str) -> Origin:
    """Camera and start of a file of any row format.

    Args:
        file: The file.
        video_id: Id of its video, the stem of the file's name.

    Raises:
        ValueError: If a value cannot be read, or a column is there twice.
        pyarrow.ArrowException: If the file is damaged.
    """
    metadata = file.metadata.metadata or {}
    camera, start = metadata.get(b"camera", b"").decode(), metadata.get(b"start")
    start_us = None if start is None else _microseconds(start.decode())
    if camera:
        return Origin(camera, start_us)
    names = _among(file, ("video", "camera", "time", "time_s"))
    check_columns(names, ())
    first = next(file.iter_batches(1, columns=names, use_threads=False), None) if names else None
    row = first.to_pylist()[0] if first is not None and len(first) else {}
    if start_us is None and isinstance(row.get("time"), datetime):
        start_us = _microseconds(row["time"]) - round(1e6 * float(row.get("time_s") or 0))
    if name := str(row.get("camera") or ""):
        return Origin(name, start_us)
    uri = str(row.get("video") or "")
    name = PurePosixPath(file_name(uri)).stem or sequence_name(video_id)
    return Origin(name, start_us, uri.rpartition("/")[0])


def _among(file: pq.ParquetFile, names: tuple[str, ...]) -> list[str]:
    """The columns of a file that have one of these names, as often as they are there."""
    return [name for name in file.schema_arrow.names if name in names]


def _microseconds(moment: datetime | str) -> int:
    value = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    value = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if not _YEARS[0] <= value.year < _YEARS[1]:
        raise ValueError(f"start: got the year {value.year}, expected {_YEARS[0]} to {_YEARS[1]}")
    return (value - _EPOCH) // timedelta(microseconds=1)


def read_sightings(file: pq.ParquetFile) -> Sightings:
    """All rows of a file of any row format.

    Raises:
        ValueError: If a column is missing or there twice, a value is not finite, or a frame
            negative.
        pyarrow.ArrowException: If the file is damaged.
    """
    names = _among(file, (*_WANTED, "video"))
    check_columns(names, _WANTED)
    table = file.read(columns=names, use_threads=False)
    for name in _WANTED:
        kind = table.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ValueError(f"{name}: got values of type {kind}, expected numbers")
    frame, track_id, *corners, time_s = (table.column(name).to_numpy() for name in _WANTED)
    tlbr = np.stack(corners, axis=1)
    for name, values in (("frame", frame), ("track_id", track_id), ("box", tlbr), ("time", time_s)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name}: got a number that is null or not finite")
    if len(frame) and frame.min() < 0:
        raise ValueError(f"frame: got {frame.min()}, expected numbers from 0")
    if len(time_s) and not np.abs(time_s).max() < _LONGEST_S:
        raise ValueError(f"time_s: got {np.abs(time_s).max():g} s, expected less than a lifetime")
    rows = BoxRows(frame.astype(np.int64), track_id.astype(np.int64), tlbr)
    video = str(table.column("video")[0].as_py() or "") if "video" in names and len(table) else ""
    return Sightings(video, rows, time_s.astype(np.float64))

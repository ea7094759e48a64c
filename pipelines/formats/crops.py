"""The table of a video's crops, `crops/index/*.parquet`. No other module names its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.formats.parquet_file import ParquetFile
from jde_ray.pipelines.formats.tracks import ROW_GROUP_ROWS
from jde_ray.pipelines.storage.base import Body
from jde_ray.pipelines.structures import Video

_CORNERS = ("x1", "y1", "x2", "y2")
_BLUR = b"blur"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A picture of a track.

    Attributes:
        track_id: Id of the track.
        rank: 1 for the best picture of the track, then 2, ...
        frame: 0-based source frame.
        time_s: Presentation time in seconds.
        tlbr: `(4,)` box of the person in source pixels.
        score: Of the box, in [0, 1].
        cut: Left, top, right and bottom of the picture in source pixels.
        file: Key of the picture in OUT.
    """

    track_id: int
    rank: int
    frame: int
    time_s: float
    tlbr: FloatArray
    score: float
    cut: tuple[int, int, int, int]
    file: str


def crop_schema() -> pa.Schema:
    """Arrow schema of the table (docs/storage.md, "Pictures of people")."""
    text = pa.dictionary(pa.int32(), pa.string())
    columns = [("video_id", text), ("video", text), ("track_id", pa.int32()), ("rank", pa.int32())]
    columns += [("frame", pa.int32()), ("time_s", pa.float64())]
    columns += [(name, pa.float32()) for name in (*_CORNERS, "score")]
    columns += [(f"crop_{name}", pa.int32()) for name in _CORNERS]
    return pa.schema([*columns, ("file", pa.string())])


def encode_crops(
    video: Video, crops: Sequence[Crop], metadata: Mapping[str, str], folder: Path
) -> Body:
    """The table of a video's crops, sorted by track and frame; it may have no rows.

    Args:
        video: The video.
        crops: Its crops, in any order.
        metadata: Metadata of the file.
        folder: Local folder for a table that is large.
    """
    rows = sorted(crops, key=lambda one: (one.track_id, one.frame))
    schema = crop_schema()
    file = ParquetFile(folder / "crops.parquet", schema, ROW_GROUP_ROWS, has_parts=False)
    for first in range(0, len(rows), ROW_GROUP_ROWS):
        file.append(_table(video, rows[first : first + ROW_GROUP_ROWS], schema))
    return file.close(metadata)


def _table(video: Video, rows: Sequence[Crop], schema: pa.Schema) -> pa.Table:
    place = pa.array(np.zeros(len(rows), np.int32))
    columns = {
        name: pa.DictionaryArray.from_arrays(place, pa.array([text]))
        for name, text in (("video_id", video.video_id), ("video", video.uri))
    }
    for name in ("track_id", "rank", "frame", "time_s", "score", "file"):
        columns[name] = pa.array([getattr(one, name) for one in rows], schema.field(name).type)
    for i, name in enumerate(_CORNERS):
        columns[name] = pa.array([float(one.tlbr[i]) for one in rows], pa.float32())
        columns[f"crop_{name}"] = pa.array([one.cut[i] for one in rows], pa.int32())
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def facts_of_crops(video: Video, blur: str, most: int) -> dict[str, str]:
    """Metadata of the table: version of the video's content, and how the pictures were made."""
    return {
        "video_version": video.source_version,
        _BLUR.decode(): blur,
        "crops_per_track": str(most),
    }


def best_crops(file: pq.ParquetFile) -> dict[int, str]:
    """Key of the best picture of each track, by its id."""
    table = file.read(columns=["track_id", "rank", "file"])
    columns = (table.column(name).to_pylist() for name in table.column_names)
    return {track_id: key for track_id, rank, key in zip(*columns, strict=True) if rank == 1}


def blur_of(file: pq.ParquetFile) -> str:
    """What is hidden in the pictures: `none`, `people` or `heads`."""
    metadata: Mapping[bytes, bytes] = file.metadata.metadata or {}
    return metadata.get(_BLUR, b"none").decode()

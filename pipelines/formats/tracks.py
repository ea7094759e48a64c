"""Reads and writes rows of tracks; no other module names a column of `tracks/*.parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.metrics.rows import BoxRows, check_unique
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.formats.limits import MOST_FRAMES, are_rows
from jde_ray.pipelines.formats.mot import format_tracks, read_results
from jde_ray.pipelines.formats.parquet_file import binary_array, list_array, vectors_of
from jde_ray.pipelines.formats.video_columns import (
    PERSON,
    TEXT,
    TIME,
    as_array,
    cast_to,
    check_columns,
    clock_times,
    floats_of,
    is_own,
    numbers_of,
    plain_array,
    repeated,
    seconds_and_start,
)
from jde_ray.pipelines.structures import TrackedFrame, Video

ROW_GROUP_ROWS = 16_384
_CORNERS = ("x1", "y1", "x2", "y2")
_OF_VIDEO = ("video_id", "video")  # the same value in every row of a file


@cache
def track_schema(embedding_dim: int | None = None) -> pa.Schema:
    """Arrow schema of `tracks/*.parquet` (docs/architecture.md, "What a run leaves behind").

    Args:
        embedding_dim: Width D of the float16 embedding column; None or 0 for no such column.
    """
    columns: list[Any] = [(name, TEXT) for name in (*_OF_VIDEO, "camera")]
    columns += [("frame", pa.int32()), ("time_s", pa.float64()), ("time", TIME)]
    columns += [("track_id", pa.int32())]
    columns += [(name, pa.float32()) for name in (*_CORNERS, "score")]
    columns += [("class", TEXT)]
    if embedding_dim:
        columns.append(("embedding", pa.binary(2 * embedding_dim)))
    return pa.schema(columns)


def track_table(
    video: Video, frames: Sequence[TrackedFrame], embedding_dim: int | None = None
) -> pa.Table:
    """Rows of successive frames, sorted by frame and id.

    Args:
        video: The video that the frames belong to.
        frames: Tracks in the order of frames, with embeddings if they are stored; at least one
            track in all.
        embedding_dim: Width D of the embedding column; None or 0 for no such column.
    """
    counts = [len(frame.tracks) for frame in frames]
    place = np.repeat(np.arange(len(frames)), counts)
    ids = np.concatenate([frame.tracks.track_id for frame in frames])
    order = np.lexsort((ids, place))
    tlbr = np.concatenate([frame.tracks.tlbr for frame in frames])[order].astype(np.float32)
    scores = np.concatenate([frame.tracks.score for frame in frames])[order]
    index = np.array([frame.frame_index for frame in frames], np.int32)
    time_s = np.array([frame.time_s for frame in frames], np.float64)[place]
    columns: dict[str, pa.Array] = {
        "video_id": repeated(video.video_id, len(ids)),
        "video": repeated(video.uri, len(ids)),
        "camera": repeated(video.camera, len(ids)),
        "frame": plain_array(index[place]),
        "time_s": plain_array(time_s),
        "time": clock_times(video.start, time_s),
        "track_id": plain_array(ids[order].astype(np.int32)),
        "score": plain_array(scores.astype(np.float32)),
        "class": repeated(PERSON, len(ids)),
    }
    for i, name in enumerate(_CORNERS):
        columns[name] = plain_array(np.ascontiguousarray(tlbr[:, i]))
    if embedding_dim:
        vectors = [frame.embeddings for frame in frames if frame.embeddings is not None]
        columns["embedding"] = binary_array(np.concatenate(vectors)[order])
    schema = track_schema(embedding_dim)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


@dataclass(frozen=True)
class TrackRows:
    """Rows of a file of `tracks/`, in the file's precision, sorted by frame.

    Attributes:
        frame: `(n,)` 0-based source frames, in ascending order.
        track_id: `(n,)` ids.
        tlbr: `(n, 4)` corners in source pixels.
        score: `(n,)` in [0, 1].
    """

    frame: IntArray
    track_id: IntArray
    tlbr: FloatArray
    score: FloatArray

    @staticmethod
    def from_table(table: pa.Table) -> TrackRows:
        """Sort the rows of a table, which may be in any order."""
        frame = table.column("frame").to_numpy()
        order = np.argsort(frame, kind="stable")
        ids, score = (table.column(name).to_numpy()[order] for name in ("track_id", "score"))
        corners = [table.column(name).to_numpy()[order] for name in _CORNERS]
        return TrackRows(frame[order], ids, np.stack(corners, axis=1), score)

    def in_frame(self, frame_index: int) -> TrackRows:
        """The rows of one frame."""
        own = slice(*np.searchsorted(self.frame, [frame_index, frame_index + 1]))
        return TrackRows(self.frame[own], self.track_id[own], self.tlbr[own], self.score[own])

    def to_trajectories(self) -> Trajectories:
        """The rows by track and then by frame."""
        numbers = (self.frame.astype(np.int64), self.track_id.astype(np.int64))
        return Trajectories.sort(*numbers, self.tlbr.astype(float), self.score.astype(float))

    def to_mot(self) -> str:
        """MOTChallenge text, one line per row."""
        return format_tracks(self.frame, self.track_id, self.tlbr, self.score)


def read_times(file: pq.ParquetFile, group: int) -> tuple[IntArray, NDArray[np.float64], IntArray]:
    """`(n,)` frames, times in seconds and track ids of the rows of a row group."""
    frame, time_s, track_id = _group_columns(file, group, ("frame", "time_s", "track_id"))
    return frame, time_s, track_id


def read_foot_points(file: pq.ParquetFile, group: int) -> tuple[IntArray, FloatArray]:
    """`(n,)` track ids of a row group, and `(n, 2)` centres of the lower edges of their boxes."""
    track_id, left, right, bottom = _group_columns(file, group, ("track_id", "x1", "x2", "y2"))
    return track_id, np.stack([(left + right) / 2, bottom], axis=1)


def read_uri(file: pq.ParquetFile) -> str:
    """URI of the video that the rows belong to; empty if there are no rows."""
    if not file.num_row_groups:
        return ""
    uris = file.read_row_group(0, columns=["video"]).column("video")
    return str(uris[0].as_py()) if len(uris) else ""


def _group_columns(file: pq.ParquetFile, group: int, names: tuple[str, ...]) -> list[NDArray[Any]]:
    table = file.read_row_group(group, columns=list(names))
    return [numbers_of(table.column(name)) for name in names]


def has_embeddings(schema: pa.Schema) -> bool:
    """Whether a file of this schema stores an embedding per row."""
    return "embedding" in schema.names


def read_embeddings(table: pa.Table) -> FloatArray | None:
    """`(n, D)` float16 embeddings of the rows of a table; None if it stores none."""
    if not has_embeddings(table.schema):
        return None
    column = table.column("embedding").combine_chunks()
    vectors: FloatArray = vectors_of(column.chunk(0) if hasattr(column, "chunk") else column)
    return vectors


def map_embeddings(file: pq.ParquetFile, folder: Path) -> FloatArray | None:
    """`(n, D)` float16 embeddings of all rows of a file; None if it stores none.

    They are copied into a file in `folder` that is mapped into memory: the system may drop them.
    """
    if not has_embeddings(file.schema_arrow):
        return None
    mapped: FloatArray | None = None
    first = 0
    for batch in file.iter_batches(ROW_GROUP_ROWS, columns=["embedding"]):
        vectors = vectors_of(batch.column(0))
        if mapped is None:
            shape = (file.metadata.num_rows, vectors.shape[1])
            if 0 in shape:
                return np.zeros(shape, np.float16)
            mapped = np.memmap(folder / "embeddings", np.float16, "w+", shape=shape)
        mapped[first : first + len(vectors)] = vectors
        first += len(vectors)
    return np.zeros((0, 0), np.float16) if mapped is None else mapped


def readable(table: pa.Table) -> pa.Table:
    """A table of `tracks/` with the `name` of the video's file, and embeddings as lists."""
    vectors = read_embeddings(table)
    if vectors is not None:
        place = table.schema.get_field_index("embedding")
        table = table.set_column(place, "embedding", list_array(vectors))
    if "video" not in table.column_names or not len(table):
        return table
    uri = str(table.column("video")[0].as_py())
    return table.add_column(0, "name", repeated(file_name(uri), len(table)))


def with_video(table: pa.Table, video: Video) -> pa.Table:
    """A table with the columns `name`, `video_id` and `video` in front, the same in every row."""
    values = {"name": file_name(video.uri), "video_id": video.video_id, "video": video.uri}
    for name, value in reversed(values.items()):
        table = table.add_column(0, name, repeated(value, len(table)))
    return table


def file_name(uri: str) -> str:
    """The last part of an address.

    >>> file_name("s3://bucket/day 1/door.mp4"), file_name("MOT17-02/")
    ('door.mp4', 'MOT17-02')
    """
    return uri.rstrip("/").rpartition("/")[2]


def added_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Columns that runs do not write; someone else added them."""
    known = track_schema(1).names
    return tuple(field.name for field in schema if field.name not in known or not is_own(field))


def replace_rows(
    table: pa.Table, schema: pa.Schema, tracks: Trajectories, embeddings: FloatArray | None
) -> Iterator[pa.Table]:
    """The rows of `tracks` by frame and id in the columns of a file of `tracks/`, in parts.

    Times are interpolated between the frames of `table`; camera and class are those of the row from
    which a row comes. Columns that runs do not write are null.

    Args:
        table: All rows of the file; embeddings and added columns may be left out.
        schema: Schema of the file.
        tracks: The new rows.
        embeddings: `(N, D)` embeddings of the rows of `table`; None if the file has none.

    Yields:
        Up to `ROW_GROUP_ROWS` rows; no table if there are no rows.
    """
    order = np.lexsort((tracks.track_id, tracks.frame))
    known, first = np.unique(floats_of(table, "frame"), return_index=True)
    seconds, start = seconds_and_start(table)
    of_video = {
        name: table.column(name)[0].as_py() if len(table) else None
        for name in _OF_VIDEO
        if name in schema.names
    }
    names = [name for name in ("camera", "class") if name in table.column_names]
    of_row = {name: table.column(name) for name in names}
    wanted, added = schema_of_refined(schema), added_columns(schema)
    for low in range(0, len(order), ROW_GROUP_ROWS):
        rows = order[low : low + ROW_GROUP_ROWS]
        columns: dict[str, Any] = {"frame": tracks.frame[rows], "track_id": tracks.track_id[rows]}
        columns |= {name: tracks.tlbr[rows, i] for i, name in enumerate(_CORNERS)}
        columns["score"] = tracks.score[rows]
        columns |= {name: [value] * len(rows) for name, value in of_video.items()}
        if seconds is not None:
            columns["time_s"] = np.interp(tracks.frame[rows], known, seconds[first])
            columns["time"] = clock_times(start, columns["time_s"])
        source = pa.array(tracks.source[rows])
        columns |= {name: of_row[name].take(source) for name in of_row}
        if embeddings is not None:
            columns["embedding"] = binary_array(embeddings[tracks.source[rows]])
        yield pa.Table.from_arrays(
            [
                cast_to(as_array(columns[field.name]), field.type)
                if field.name in columns and field.name not in added
                else pa.nulls(len(rows), field.type)
                for field in wanted
            ],
            schema=wanted,
        )


def schema_of_refined(schema: pa.Schema) -> pa.Schema:
    """The schema of a file of `tracks/`, in which columns that runs do not write may be null."""
    added = added_columns(schema)
    return pa.schema(
        [field.with_nullable(True) if field.name in added else field for field in schema]
    )


def read_columns(file: pq.ParquetFile) -> pa.Table:
    """All rows of a file of `tracks/`, without embeddings and columns that others added."""
    schema = file.schema_arrow
    added = added_columns(schema)
    known = [name for name in track_schema().names if name in schema.names and name not in added]
    return file.read(columns=known)


def read_tracks(path: Path) -> BoxRows:
    """Read the tracks of a sequence from MOT text or a file of `tracks/`.

    Raises:
        ValueError: If they cannot be read, in one line with the file and the text line or Parquet
            row (from 0).
    """
    return _read_rows(path)[0]


def read_scored_tracks(path: Path) -> tuple[BoxRows, FloatArray]:
    """Like `read_tracks`, with the `(n,)` scores, all finite; 1 if a Parquet file has none."""
    rows, scores = _read_rows(path)
    if not np.isfinite(scores).all():
        raise ValueError(f"{path}: got a score that is NaN or Inf, expected finite numbers")
    return rows, scores


def _read_rows(path: Path) -> tuple[BoxRows, FloatArray]:
    if path.suffix != ".parquet":
        results = read_results(path)
        return results.rows, results.scores
    try:
        file = pq.ParquetFile(path)
        table = read_columns(file)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable Parquet file ({reason})") from error
    wanted = ("frame", "track_id", *_CORNERS)
    own = [name for name in file.schema_arrow.names if name in track_schema().names]
    check_columns(own, wanted, f"{path}: ")
    columns = {name: floats_of(table, name, str(path)) for name in wanted}
    tlbr = np.stack([columns[name] for name in _CORNERS], 1)
    numbers = np.column_stack([columns["frame"], columns["track_id"], tlbr])
    bad = np.flatnonzero(~are_rows(numbers))
    if len(bad):
        got = ", ".join(f"{value:g}" for value in numbers[bad[0]])
        accepted = f"frames from 0 to {MOST_FRAMES - 1}, whole ids, finite boxes"
        raise ValueError(f"{path}: row {bad[0]}: got {got}, expected {accepted}")
    rows = BoxRows(columns["frame"].astype(np.int64), columns["track_id"].astype(np.int64), tlbr)
    check_unique(str(path), rows)
    if "score" not in table.column_names:
        return rows, np.ones(len(rows))
    return rows, floats_of(table, "score", str(path))

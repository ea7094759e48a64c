"""`read_tracks` and `read_detections`: the results of a run as one table."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.pipelines.formats import detection_rows, tracks
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.names import sequence_name
from jde_ray.pipelines.output.layout import DETECTIONS_PREFIX, TRACKS_PREFIX
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video

_SUFFIX = ".parquet"


def read_tracks(out: str | os.PathLike[str]) -> pa.Table:
    """Read all tracks of a run, or of one of its files, into memory.

    If they do not fit into memory, read `OUT/tracks/*.parquet` with DuckDB or Polars.

    Args:
        out: OUT of a run, a folder or an `s3://` prefix, or a file of `OUT/tracks`.

    Returns:
        Table, sorted by video and frame, with the columns `name` of the video's file, `video_id`,
        `video` (its address), `camera`, `frame` (from 0), `time_s`, `time` (in UTC), `track_id`
        (from 1, unique in a video), `x1`, `y1`, `x2`, `y2` in pixels, `score` and `class`;
        `embedding` (lists of float32) if the run stored them. Runs of row formats before 4 have no
        `camera`, `time` and `class`. `.to_pandas()` converts it to a data frame.

    Raises:
        ValueError: If no tracks are found, or a file cannot be read, with its address.
    """
    return _read(out, TRACKS_PREFIX, lambda file, _: tracks.readable(file.read()))


def read_detections(out: str | os.PathLike[str]) -> pa.Table:
    """Read all detections of a run with `--save-detections`, or of one of its files.

    Args:
        out: OUT of a run, a folder or an `s3://` prefix, or a file of `OUT/detections`.

    Returns:
        Table with one row per detection, sorted by video and frame, with the columns of
        `read_tracks` without `track_id`, and `quality` (of the picture) if the network told it.
        Frames without detections have no row.

    Raises:
        ValueError: If no detections are found, or a file cannot be read, with its address.
    """
    return _read(out, DETECTIONS_PREFIX, _detections)


def _detections(file: pq.ParquetFile, video_id: str) -> pa.Table:
    video = FileFacts.of(file.metadata).video or Video(video_id, sequence_name(video_id))
    return tracks.with_video(detection_rows.readable(file.read()), video)


def _read(
    out: str | os.PathLike[str], prefix: str, read: Callable[[pq.ParquetFile, str], pa.Table]
) -> pa.Table:
    place = os.fspath(out)
    if place.endswith(_SUFFIX):
        folder, _, key = place.rpartition("/")
        store, keys = open_store(folder or "."), [key]
    elif "://" not in place and not Path(place).expanduser().is_dir():
        state = "is a file" if Path(place).expanduser().exists() else "does not exist"
        raise ValueError(f"out: {place} {state}, expected OUT of a run")
    else:
        store = open_store(out)
        keys = sorted(key for key in store.list(prefix) if key.endswith(_SUFFIX))
    if not keys:
        raise ValueError(f"out: {place} has no {prefix}*{_SUFFIX}, expected OUT of a run")
    tables = []
    for key in keys:
        try:
            content = io.BytesIO(store.get(key))
        except FileNotFoundError:
            raise ValueError(f"out: {place} does not exist, expected a file of a run") from None
        try:
            file = pq.ParquetFile(content)
            tables.append(read(file, key.removeprefix(prefix).removesuffix(_SUFFIX)))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{store.uri}/{key} cannot be read ({reason})") from error
    return pa.concat_tables(tables, promote_options="default")

"""`read_tracks`: what a run has written, as one table."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.pipelines.formats.tracks import readable
from jde_ray.pipelines.output.layout import TRACKS_PREFIX, list_ids, tracks_key
from jde_ray.pipelines.storage.stores import open_store


def read_tracks(out: str | os.PathLike[str]) -> pa.Table:
    """All tracks of a run, or of one of its files, in memory.

    For more rows than fit there, let DuckDB or Polars read `OUT/tracks/*.parquet`.

    Args:
        out: OUT of a run, a folder or an `s3://` prefix, or a file of `OUT/tracks`.

    Returns:
        Table, sorted by video and frame, with the columns `name` of the video's file, `video_id`,
        `video` (its address), `frame` (from 0), `time_s`, `track_id` (from 1, unique in a video),
        `x1`, `y1`, `x2`, `y2` in pixels and `score`; `embedding` (lists of float32) if the run
        stored them. `.to_pandas()` makes a data frame of it.

    Raises:
        ValueError: If there are no tracks.
    """
    place = os.fspath(out)
    if place.endswith(".parquet"):
        folder, _, file = place.rpartition("/")
        store, keys = open_store(folder or "."), [file]
    else:
        if "://" not in place and not Path(place).expanduser().is_dir():
            raise ValueError(f"out: {place} does not exist, expected OUT of a run")
        store = open_store(out)
        keys = [tracks_key(video_id) for video_id in sorted(list_ids(store, TRACKS_PREFIX))]
    if not keys:
        raise ValueError(f"out: {place} has no {TRACKS_PREFIX}*.parquet, expected OUT of a run")
    try:
        tables = [readable(pq.read_table(io.BytesIO(store.get(key)))) for key in keys]
    except FileNotFoundError:
        raise ValueError(f"out: {place} does not exist, expected a file of tracks") from None
    return pa.concat_tables(tables, promote_options="default")

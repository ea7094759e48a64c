"""CSV: the columns of `tracks/*.parquet` but the embeddings, exact to the last digit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import csv

from jde_ray.pipelines.formats.exchange.video_tracks import Choices, VideoTracks


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """A header and a line per row, in the order of the file; text in quotes, null is nothing."""
    file = io.BytesIO()
    csv.write_csv(_of_text(video) if video.table is None else _plain(video.table), file)
    return {f"{video.name}.csv": file.getvalue()}


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, which the writer does not know."""
    columns = {}
    for field in table.schema:
        column = table.column(field.name)
        is_coded = pa.types.is_dictionary(field.type)
        columns[field.name] = column.cast(field.type.value_type) if is_coded else column
    return pa.table(columns)


def _of_text(video: VideoTracks) -> pa.Table:
    """The rows of MOT text, which has no more than this."""
    columns: dict[str, Any] = {"frame": video.frame, "track_id": video.track_id}
    columns |= {name: video.tlbr[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
    return pa.table({**columns, "score": video.score})

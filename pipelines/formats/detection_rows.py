"""Saved detections with one row each, for scores and for users' tables.

`detections` reads them frame by frame, as the association does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.formats.detection_columns import check_schema, read_columns
from jde_ray.pipelines.formats.mot import read_scored
from jde_ray.pipelines.formats.parquet_file import list_array


@dataclass(frozen=True)
class DetectionRows:
    """Detections of a sequence, one row each.

    Attributes:
        rows: Frames and boxes; ids are row numbers.
        scores: `(n,)` unchanged from the file.
        embeddings: `(n, D)` float16; None if the file has none.
    """

    rows: BoxRows
    scores: FloatArray
    embeddings: FloatArray | None


def read_detections(path: Path) -> DetectionRows:
    """Read detections from a file of `detections/` or from a MOT `det.txt`.

    Raises:
        ValueError: If they cannot be read, in one line with the file.
    """
    if path.suffix != ".parquet":
        scored = read_scored(path)
        rows = BoxRows(scored.rows.frame, np.arange(len(scored.rows)), scored.rows.tlbr)
        return DetectionRows(rows, scored.scores, None)
    try:
        names, schema = ["frame", "boxes", "scores"], pq.read_schema(path)
        check_schema(str(path), schema, names)
        has_embeddings = "embeddings" in schema.names
        table = pq.read_table(path, columns=names + ["embeddings"] * has_embeddings)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a file of detections/ ({reason})") from error
    arrays = {name: table.column(name).combine_chunks() for name in table.column_names}
    columns = read_columns(arrays, str(path))
    frame = np.repeat(columns.frame.astype(np.int64), columns.counts)
    tlbr, scores = columns.tlbr.astype(np.float64), columns.scores.astype(np.float64)
    if not (np.isfinite(tlbr).all() and np.isfinite(scores).all()):
        raise ValueError(f"{path}: got NaN or Inf, expected finite boxes and scores")
    embeddings = columns.embeddings if has_embeddings else None
    return DetectionRows(BoxRows(frame, np.arange(len(scores)), tlbr), scores, embeddings)


def read_camera_motion(path: Path) -> dict[int, FloatArray]:
    """The camera's motion `(2, 3)` by frame, from a file of `detections/`; empty if it has none."""
    if "camera_motion" not in pq.read_schema(path).names:
        return {}
    table = pq.read_table(path, columns=["frame", "camera_motion"]).combine_chunks()
    values = table.column("camera_motion").combine_chunks().flatten().to_numpy()
    return dict(zip(table.column("frame").to_pylist(), values.reshape(-1, 2, 3), strict=True))


def readable(table: pa.Table) -> pa.Table:
    """A file's table with one row per detection, corners as columns and embeddings as lists.

    Args:
        table: Table of a file of `detections/`; the result has no row for empty frames.
    """
    whole = {name: table.column(name).combine_chunks() for name in table.column_names}
    columns = read_columns(whole, "detections")
    row = pa.array(np.repeat(np.arange(len(table)), columns.counts))
    of_frame = ("camera", "frame", "time_s", "time")  # files of former formats lack some
    arrays = {name: whole[name].take(row) for name in of_frame if name in whole}
    corners = {name: columns.tlbr[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
    arrays |= {name: pa.array(np.ascontiguousarray(v)) for name, v in corners.items()}
    arrays["score"] = pa.array(columns.scores)
    if "classes" in whole:
        arrays["class"] = whole["classes"].flatten().dictionary_encode()
    if "embeddings" in table.column_names:
        arrays["embedding"] = list_array(columns.embeddings)
    if columns.quality is not None:
        arrays["quality"] = pa.array(columns.quality)
    return pa.table(arrays)

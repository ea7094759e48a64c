"""`tracks/*.parquet` and MOT text: rows of tracks, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.metrics.rows import BoxRows, check_unique
from jde_ray.models.structures import FloatArray, Tracks
from jde_ray.pipelines.formats.mot import read_results

_CORNERS = ("x1", "y1", "x2", "y2")


def track_schema(embedding_dim: int | None = None) -> pa.Schema:
    """Arrow schema of `tracks/*.parquet` (docs/architecture.md, "What a run leaves behind").

    Args:
        embedding_dim: Width D of the float16 embedding column, None or 0 for no such column.
    """
    text = pa.dictionary(pa.int32(), pa.string())
    columns: list[Any] = [("video_id", text), ("video", text), ("frame", pa.int32())]
    columns += [("time_s", pa.float64()), ("track_id", pa.int32())]
    columns += [(name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")]
    if embedding_dim:
        columns.append(("embedding", pa.binary(2 * embedding_dim)))
    return pa.schema(columns)


def read_tracks(path: Path) -> BoxRows:
    """Tracks of a sequence, from MOT text or a file of `tracks/`.

    Raises:
        ValueError: If they cannot be read, in one line with the file, and the line of a text file
            or the row (from 0) of Parquet.
    """
    return read_scored_tracks(path)[0]


def read_scored_tracks(path: Path) -> tuple[BoxRows, FloatArray]:
    """As `read_tracks`, with the `(n,)` scores; 1 where a Parquet has none."""
    if path.suffix != ".parquet":
        results = read_results(path)
        return results.rows, results.scores
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable Parquet file ({reason})") from error
    wanted = ("frame", "track_id", *_CORNERS)
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]}, expected {', '.join(wanted)}")
    columns = {name: table.column(name).to_numpy().astype(np.float64) for name in wanted}
    tlbr = np.stack([columns[name] for name in _CORNERS], 1)
    numbers = np.column_stack([columns["frame"], columns["track_id"], tlbr])
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1) | (columns["frame"] < 0))
    if len(bad):
        got = ", ".join(f"{value:g}" for value in numbers[bad[0]])
        raise ValueError(
            f"{path}: row {bad[0]}: got {got}, expected finite numbers and frames from 0"
        )
    rows = BoxRows(columns["frame"].astype(np.int64), columns["track_id"].astype(np.int64), tlbr)
    check_unique(str(path), rows)
    scores = (
        table.column("score").to_numpy() if "score" in table.column_names else np.ones(len(rows))
    )
    return rows, scores.astype(np.float64)


def mot_text(table: pa.Table) -> str:
    """MOTChallenge text of a committed file of tracks; the same as `--save-mot` writes at once."""
    columns = {name: table.column(name).to_numpy() for name in ("frame", "track_id", "score")}
    tlbr = np.stack([table.column(name).to_numpy() for name in _CORNERS], 1).astype(np.float64)
    frames, starts = np.unique(columns["frame"], return_index=True)
    lines: list[str] = []
    for frame, start, end in zip(frames, starts, [*starts[1:], len(table)], strict=True):
        ids, scores = columns["track_id"][start:end], columns["score"][start:end]
        rows = Tracks(ids, tlbr[start:end], scores, np.arange(end - start))
        lines += rows.to_mot(int(frame))
    return "".join(f"{line}\n" for line in lines)

"""OUTs of runs whose rows are known, written without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.pipelines.formats.exchange.video_tracks import VideoTracks
from jde_ray.pipelines.formats.tracks import track_schema
from jde_ray.pipelines.names import make_id

SIZE, RATE = (640, 360), 25.0
Row = tuple[int, int, float, float, float, float, float]  # frame, id, x1, y1, x2, y2, score
ROWS: list[Row] = [
    (0, 1, 10.25, 20.5, 60.75, 170.0, 0.91),
    (0, 2, 300.0, 40.0, 350.0, 190.0, 0.82),
    (1, 1, 12.25, 20.5, 62.75, 170.0, 0.92),
    (4, 1, 20.0, 21.0, 70.0, 171.0, 0.75),  # seen again after a gap
    (5, 1, 22.0, 21.0, 72.0, 171.0, 0.7),
    (5, 3, 600.0, 200.0, 639.0, 359.0, 0.66),  # in one frame only
]


def write_tracks(
    out: Path,
    rows: Sequence[Row] = ROWS,
    uri: str = "/videos/door.mp4",
    *,
    num_frames: int = 8,
    without: Sequence[str] = (),
    columns: Mapping[str, pa.Array] | None = None,
) -> Path:
    """Write a file of `tracks/` as a run does.

    Args:
        out: OUT.
        rows: The rows, in any order.
        uri: Address of the video.
        num_frames: Frames that were processed.
        without: Facts that the metadata lacks.
        columns: Columns to add.
    """
    name = uri.rpartition("/")[2].rpartition(".")[0] or "video"
    video_id = make_id(name, uri)
    values = np.array(rows, np.float64).reshape(-1, 7)
    values = values[np.lexsort((values[:, 1], values[:, 0]))]
    names = ("frame", "track_id", "x1", "y1", "x2", "y2", "score")
    table: dict[str, Any] = {name: values[:, i] for i, name in enumerate(names)}
    table |= {"video_id": [video_id] * len(values), "video": [uri] * len(values)}
    table["time_s"] = values[:, 0] / RATE
    schema = track_schema().remove_metadata()
    known = [field for field in schema if field.name in table]
    arrays = {field.name: pa.array(table[field.name]).cast(field.type) for field in known}
    facts = {"width": SIZE[0], "height": SIZE[1], "frames_per_second": RATE}
    facts |= {"num_frames": num_frames, "num_detections": len(rows)}
    metadata = {key: str(value) for key, value in facts.items() if key not in without}
    path = out / "tracks" / f"{video_id}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = pa.table({**arrays, **(columns or {})})
    pq.write_table(written.replace_schema_metadata(metadata), path)
    return path


def video_of(rows: Sequence[Row], name: str = "door", **facts: Any) -> VideoTracks:
    """The rows as the writers take them."""
    values = np.array(rows, np.float64).reshape(-1, 7)
    values = values[np.lexsort((values[:, 1], values[:, 0]))]
    known: dict[str, Any] = {"uri": "/videos/door.mp4", "size": SIZE, "rate": RATE}
    known |= {"num_frames": 8, "stride": 1, **facts}
    return VideoTracks(
        name,
        frame=values[:, 0].astype(np.int64),
        track_id=values[:, 1].astype(np.int64),
        tlbr=values[:, 2:6],
        score=values[:, 6],
        time_s=values[:, 0] / RATE,
        label=np.full(len(values), "person", object),
        **known,
    )

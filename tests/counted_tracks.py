"""OUT of a run for the tests of counting: people on straight ways, files of any row format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZE = (640, 360)
RATE = 10.0


def rows_of(*walks, height=40.0):
    """Rows of people who walk straight: (id, first frame, last frame, from, to), feet in pixels."""
    parts = []
    for track_id, first, last, start, end in walks:
        frame = np.arange(first, last + 1)
        share = (frame - first) / max(1, last - first)
        x = start[0] + share * (end[0] - start[0])
        y = start[1] + share * (end[1] - start[1])
        box = np.stack([x - 10, y - height, x + 10, y], axis=1).astype(np.float32)
        parts.append((frame, np.full(len(frame), track_id), box))
    frame, ids, tlbr = (np.concatenate(own) for own in zip(*parts, strict=True))
    order = np.lexsort((ids, frame))
    return frame[order], ids[order], tlbr[order]


def write_tracks(
    out: Path,
    name: str,
    rows,
    *,
    camera: str | None = None,
    start: str | None = None,
    num_frames: int = 100,
    size: tuple[int, int] = SIZE,
    **metadata: str,
) -> Path:
    """A file of `tracks/` with the columns that counting reads, and a video's metadata."""
    frame, ids, tlbr = rows
    columns = {
        "video_id": pa.array([name] * len(frame), pa.string()).dictionary_encode(),
        "video": pa.array([f"/videos/{name}.mp4"] * len(frame), pa.string()).dictionary_encode(),
        "frame": pa.array(frame, pa.int32()),
        "time_s": pa.array(frame / RATE),
        "track_id": pa.array(ids, pa.int32()),
    }
    for i, corner in enumerate(("x1", "y1", "x2", "y2")):
        columns[corner] = pa.array(np.ascontiguousarray(tlbr[:, i], np.float32))
    facts = {"width": str(size[0]), "height": str(size[1]), "num_frames": str(num_frames)}
    facts |= {"frames_per_second": str(RATE), **metadata}
    facts |= {k: v for k, v in {"camera": camera, "start": start}.items() if v is not None}
    (out / "tracks").mkdir(parents=True, exist_ok=True)
    path = out / "tracks" / f"{name}.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), path)
    return path


# one crosses the middle to the right at x = 320 and stands in the queue, one crosses back
WALKS = (
    (1, 0, 40, (100, 300), (500, 300)),
    (1, 41, 90, (500, 300), (505, 300)),
    (2, 10, 60, (600, 200), (50, 200)),
)
PLACES = """
units: shares
places:
  - {name: middle, line: [[0.5, 1.0], [0.5, 0.0]], to_right: in, to_left: out}
  - {name: queue, zone: [[0.7, 0.7], [0.9, 0.7], [0.9, 0.95], [0.7, 0.95]]}
"""

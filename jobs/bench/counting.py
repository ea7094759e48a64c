"""`jde bench count`: how long `jde count` takes over many finished videos."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from jde_ray.jobs.bench.machine import AsJson, processor
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    import pyarrow as pa

_PEOPLE, _RATE, _SIZE = 20, 25.0, (1280, 720)
_CAMERAS = 10
_PLACES = """units: shares
places:
  - {name: door, line: [[0.1, 0.5], [0.9, 0.5]], to_right: in, to_left: out}
  - {name: gate, line: [[0.5, 0.1], [0.5, 0.9]]}
  - {name: queue, zone: [[0.2, 0.2], [0.5, 0.2], [0.6, 0.6], [0.2, 0.5]]}
  - {name: desk, zone: [[0.6, 0.6], [0.9, 0.6], [0.9, 0.9], [0.6, 0.9]]}
"""


def count(
    videos: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 1000,
    rows: Annotated[int, typer.Option(min=1, help="Rows of all videos.")] = 6_000_000,
    as_json: AsJson = False,
) -> None:
    """Seconds that `jde count` takes from its start to its end, page cache warm, and once again."""
    with tempfile.TemporaryDirectory(prefix="jde-bench-") as folder:
        out, places = Path(folder, "out"), Path(folder, "places.yaml")
        places.write_text(_PLACES)
        write_tracks(out, videos, max(1, rows // videos))
        command = [sys.executable, "-m", "jde_ray.jobs.cli", "count", str(out)]
        command += ["--config", str(places), "--to", str(Path(folder, "counts")), "--by", "minute"]
        first, again = _timed(command), _timed(command)
        counted = json.loads(Path(folder, "counts", "count.json").read_text())
    report = {
        "cpu": processor(),
        "videos": counted["videos"],
        "rows": counted["rows"],
        "events": counted["events"],
        "seconds": round(first[0], 2),
        "processor_seconds": round(first[1], 2),
        "again_seconds": round(again[0], 2),
    }
    typer.echo(json.dumps(report, indent=2 if as_json else None))


def _timed(command: list[str]) -> tuple[float, float]:
    """Seconds from start to end, and seconds of processor time."""
    began, used = time.perf_counter(), _used_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RunError(f"bench: {done.stderr.strip()}", ExitCode.INTERNAL)
    return time.perf_counter() - began, _used_s() - used


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_tracks(out: Path, videos: int, rows: int) -> None:
    """Write OUT of a run whose people walk at random.

    Args:
        out: Folder to write.
        videos: Number of files; `_CAMERAS` cameras take turns, and their recordings do not overlap.
        rows: Rows of each file.
    """
    import pyarrow.parquet as pq

    from jde_ray.pipelines.formats.tracks import ROW_GROUP_ROWS, track_schema

    (out / "tracks").mkdir(parents=True)
    schema, rng = track_schema(), np.random.default_rng(0)
    frames = -(-rows // _PEOPLE)
    for number in range(videos):
        camera = f"camera-{number % _CAMERAS}"
        start = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=number // _CAMERAS)
        columns = _walks(rng, frames)
        columns = {name: values[:rows] for name, values in columns.items()}
        texts = {"video_id": f"video-{number:06}", "video": f"/videos/video-{number:06}.mp4"}
        table = _table(schema, columns, {**texts, "camera": camera, "class": "person"}, start)
        metadata = {
            "width": _SIZE[0],
            "height": _SIZE[1],
            "num_frames": frames,
            "frames_per_second": _RATE,
            "camera": camera,
            "start": start.isoformat(),
        }
        table = table.replace_schema_metadata({k: str(value) for k, value in metadata.items()})
        path = out / "tracks" / f"{texts['video_id']}.parquet"
        pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS, compression="zstd")


def _walks(rng: np.random.Generator, frames: int) -> dict[str, Any]:
    """Rows by frame of `_PEOPLE` people who walk at about 50 pixels per second and bounce."""
    turn = np.cumsum(rng.normal(0, 0.05, (frames, _PEOPLE)), 0) + rng.uniform(0, 6.3, _PEOPLE)
    way = [np.cumsum(2 * f(turn), 0) + rng.uniform(0, 2000, _PEOPLE) for f in (np.cos, np.sin)]
    x, y = (abs((at + size) % (2 * size) - size) for at, size in zip(way, _SIZE, strict=True))
    height = np.broadcast_to(rng.uniform(80, 160, _PEOPLE), x.shape)
    corners = (x - height / 5, y - height, x + height / 5, y)
    frame = np.repeat(np.arange(frames), _PEOPLE)
    columns = {"frame": frame, "time_s": frame / _RATE}
    columns["track_id"] = np.tile(np.arange(1, _PEOPLE + 1), frames)
    for name, corner in zip(("x1", "y1", "x2", "y2"), corners, strict=True):
        columns[name] = corner.reshape(-1)
    columns["score"] = np.full(len(frame), 0.9)
    return columns


def _table(
    schema: pa.Schema, columns: dict[str, Any], texts: dict[str, str], start: datetime
) -> pa.Table:
    import pyarrow as pa

    count = len(columns["frame"])
    arrays = []
    for one in schema:
        if one.name in columns:
            arrays.append(pa.array(columns[one.name]).cast(one.type))
        elif one.name == "time":
            first = round(start.timestamp() * 1e6)
            times = first + np.rint(1e6 * columns["time_s"]).astype(np.int64)
            arrays.append(pa.array(times).view(one.type))
        else:
            words = pa.array([texts[one.name]])
            arrays.append(pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), words))
    return pa.Table.from_arrays(arrays, schema=schema)

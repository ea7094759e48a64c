"""What a run promises of its OUT, checked against the output of a run that nobody disturbed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from jde_ray.pipelines import processes
from jde_ray.pipelines.output.work import VideoRow
from jde_ray.pipelines.own_ray import SPOOL_PREFIX

LEFT_S = 120.0  # Ray's agents look for their raylet every 40 s
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  nothing is made there
_NO_SUMMARY: dict[str, Any] = {"videos_done": 0, "videos_skipped": 0, "videos": []}


def committed(out: Path) -> dict[str, bytes]:
    """Bytes of the files that a run has committed, by their keys."""
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in ("tracks", "detections", "mot")
        for path in out.glob(f"{folder}/[!.]*")
    }


def differences(out: Path, wanted: Mapping[str, bytes]) -> list[str]:
    """Files that are missing, have other bytes, or should not be there."""
    found = committed(out)
    wrong = [
        f"{key}: {'missing' if key not in found else 'other bytes'}"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]
    wrong += [f"{path.name} is left" for path in out.rglob(".tmp-*")]
    wrong += [f"checkpoint {path} is left" for path in out.glob("checkpoints/*/**/*.*")]
    return wrong + [f"error {path.name}" for path in out.glob("errors/*")]


def summary_errors(out: Path, wanted: Mapping[str, VideoRow]) -> list[str]:
    """Counts of `summary.json` that are not those of the files."""
    path = out / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else _NO_SUMMARY
    wrong = []
    if summary["videos_done"] + summary["videos_skipped"] != len(wanted):
        wrong.append(f"summary: {summary['videos_done']} done of {len(wanted)}")
    for row in summary["videos"]:
        if row["status"] == "done":
            wrong += _count_errors(out, row, wanted[row["video_id"]])
    return wrong


def _count_errors(out: Path, row: Mapping[str, Any], wanted: VideoRow) -> list[str]:
    path = out / f"tracks/{row['video_id']}.parquet"
    if not path.exists():
        return [f"summary: {row['video_id']} is done, and has no rows"]
    table = pq.read_table(path)
    counts = {
        "frames": wanted.frames,
        "detections": wanted.detections,
        "rows": len(table),
        "tracks": len(pc.unique(table["track_id"])),
    }
    said = {kind: row[kind] for kind in counts}
    return [] if said == counts else [f"summary: {row['video_id']} {said}, it is {counts}"]


def left_behind(spools: Path, family: Iterable[processes.Process]) -> list[str]:
    """Processes, spools and shared memory that are still there `LEFT_S` after the end."""
    wrong: list[str] = []
    deadline = time.monotonic() + LEFT_S
    while left := [command_of(one[0]) for one in family if processes.is_alive(one)]:
        if time.monotonic() > deadline:
            wrong.append(f"processes are left: {left}")
            break
        time.sleep(0.5)
    wrong += [f"{path.name} is left" for path in spools.glob(f"{SPOOL_PREFIX}*")]
    pids = {str(pid) for pid, _ in family}
    for path in _SHARED_MEMORY.iterdir():
        if pids & set(path.name.replace("_", "-").split("-")):
            wrong.append(f"{path} is left")
    return wrong


def command_of(pid: int) -> str:
    """Command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""

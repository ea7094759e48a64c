"""`run.json`, the record of a run's configuration, and outcomes of committed videos."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jde_ray.pipelines.config import (
    VERSION,
    DetectionConfig,
    Precision,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.layout import RUN_KEY, error_key, tracks_key
from jde_ray.pipelines.output.work import VideoRow, known_failure, read_row
from jde_ray.pipelines.row_format import ROW_FORMAT
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import file_in_the_way, open_store
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.wall_clock import from_text, to_text

logger = logging.getLogger(__name__)

_BY_TRACKING = ("detection.score_threshold", "detection.reid_score")  # settings that follow it
_BY_CONTENT = {f"detection.{name}_sha256": f"detection.{name}" for name in ("weights", "reid")}
_FLAGS = {
    "tracking.high_score": "conf",
    "detection.weights": "weights",
    "detection.reid": "reid",
    "detection.weights_sha256": "sha256 of weights",
    "detection.reid_sha256": "sha256 of reid",
}
_COUNTED = [field.name for field in fields(Counts) if field.name != "dropped"]
_LIBRARIES = ("ray", "torch", "numpy", "scipy", "pyarrow", "av", "opencv-python-headless")


def file_metadata(config: TrackConfig) -> dict[str, str]:
    """Metadata that every Parquet file of a run carries."""
    return {
        "model": config.detection.weights.rstrip("/").rpartition("/")[2],
        "weights_sha256": config.detection.weights_sha256,
        "config_hash": config.hash(),
        "version": VERSION,
    }


def open_out(out: str, config: TrackConfig, resources: ResourceConfig) -> ObjectStore:
    """Open OUT for a run, creating its `run.json` or checking the one that is there.

    Raises:
        RunError: If OUT cannot be used (2), or belongs to another configuration (4).
    """
    record = {
        "config_hash": config.hash(),
        "config": config.to_dict(),
        "resources": asdict(resources),
        "versions": {"jde-ray": VERSION, "python": platform.python_version()}
        | {name: _version(name) for name in _LIBRARIES},
    }
    with usable(out) as store:
        text = json.dumps(record, indent=1, sort_keys=True)
        if store.put_if_absent(RUN_KEY, f"{text}\n".encode()):
            return store
        content = store.get(RUN_KEY)
    try:
        before = parse_record(content)
    except ValueError as error:
        raise RunError(
            f"out: {out}/run.json cannot be read ({error}); put back the one that the run wrote,"
            " or choose another folder",
            ExitCode.REFUSED,
        ) from error
    if before["config_hash"] != record["config_hash"]:
        written = before["config"].get("row_format")
        if written != ROW_FORMAT:
            raise RunError(
                f"out: {out} was written by another version of jde-ray (row format {written},"
                f" expected {ROW_FORMAT}); its files can be read, but for more tracks choose"
                " another folder",
                ExitCode.OTHER_CONFIGURATION,
            )
        keys = _by_name(_differences(before["config"], config.to_dict()))
        names = {key for key, _, _ in keys}
        if "tracking.association" in names:  # each association has its own settings
            follows = ("tracking.", *_BY_TRACKING)
            keys = [
                k for k in keys if k[0].endswith(".association") or not k[0].startswith(follows)
            ]
        elif "tracking.high_score" in names:  # --conf, which also sets the detector's thresholds
            keys = [k for k in keys if k[0] not in _BY_TRACKING]
        text = "; ".join(
            f"{_FLAGS.get(key, key)}: {old} there, {new} here" for key, old, new in keys
        )
        raise RunError(
            f"out: {out} belongs to another configuration ({text}); choose another --out, or the"
            " settings there (--overwrite does not change that)",
            ExitCode.OTHER_CONFIGURATION,
        )
    return store


@contextmanager
def usable(out: str) -> Iterator[ObjectStore]:
    """The store of OUT, for a block that reads or writes it before any work.

    Raises:
        RunError: If `out` is no address of a store, or the block cannot read or write there (2).
    """
    try:
        yield open_store(out)
    except NotADirectoryError as error:
        raise RunError(str(file_in_the_way(out, "out")), ExitCode.REFUSED) from error
    except ValueError as error:  # which names `out` and what is accepted
        raise RunError(str(error), ExitCode.REFUSED) from error
    except OSError as error:
        raise RunError(f"out: {out} cannot be used ({error})", ExitCode.REFUSED) from error


def parse_record(content: bytes) -> dict[str, Any]:
    """Parse `run.json`: a mapping with a `config_hash` and the mapping `config`.

    Raises:
        ValueError: If the content is anything else.
    """
    try:
        record = json.loads(content)
    except RecursionError as error:
        raise ValueError("got JSON of too many levels, expected what a run writes") from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ValueError("got other JSON, expected what a run writes")
    if not isinstance(record.get("config_hash"), str):
        raise ValueError(f"config_hash: got {record.get('config_hash')!r}, expected a text")
    return record


def frame_limits(config: Mapping[str, Any]) -> tuple[int, int | None]:
    """Stride and frame limit in the `config` of `run.json`; 1 and None where it does not say.

    Raises:
        ValueError: If one is of a wrong type or out of range.
    """
    stride, most = config.get("vid_stride", 1), config.get("max_frames")
    for name, value in (("vid_stride", stride), ("max_frames", 1 if most is None else most)):
        if type(value) is not int:
            raise ValueError(f"{name}: got {value!r}, expected a number")
    TrackConfig(vid_stride=stride, max_frames=most)
    return stride, most


def recorded_precision(out: str) -> Precision | None:
    """Precision of the run that OUT belongs to; None for a new or an unreadable OUT."""
    try:
        before = parse_record(open_store(out).get(RUN_KEY))
        recorded: Precision = before["config"]["detection"]["precision"]
        DetectionConfig(precision=recorded)
    except (ValueError, OSError, KeyError, TypeError):
        return None  # open_out reports the error
    return recorded


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append((f"{prefix}{key}", before, after))
    return found


def _by_name(differences: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Networks that differ, by their names if those differ too: a moved file is no difference."""
    keys = {key for key, _, _ in differences}
    hidden = {name for key, name in _BY_CONTENT.items() if key not in keys}
    hidden |= {key for key, name in _BY_CONTENT.items() if name in keys}
    return [one for one in differences if one[0] not in hidden]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the videos with tracks in a folder, and the number of failed videos."""

    videos: int = 0
    failed: int = 0
    frames: int = 0
    detections: int = 0
    rows: int = 0
    tracks: int = 0


def _totals(rows: Sequence[VideoRow]) -> Totals:
    tracked = [row for row in rows if row.status in ("done", "skipped")]
    names = ("frames", "detections", "rows", "tracks")
    sums = {name: sum(getattr(row, name) for row in tracked) for name in names}
    return Totals(videos=len(tracked), failed=len(rows) - len(tracked), **sums)


def _row(outcome: VideoOutcome) -> VideoRow:
    counts = {name: getattr(outcome.counts, name) for name in _COUNTED}
    return VideoRow(
        video_id=outcome.video.video_id,
        video=outcome.video.uri,
        status="done" if outcome.error is None else "failed",
        error=None if outcome.error is None else str(outcome.error),
        version=outcome.video.source_version,
        length_s=round(outcome.length_s, 3),
        partial=outcome.partial,
        input_size=outcome.input_size,
        input_size_why=outcome.input_size_why,
        camera=outcome.video.camera,
        start=to_text(outcome.video.start),
        **counts,
    )


def committed_outcome(store: ObjectStore, video: Video) -> VideoOutcome | None:
    """Outcome of a video according to the store; None if it has neither tracks nor an error.

    It is used for videos whose association shard died after the commit; the counts of dropped
    detections are then unknown.
    """
    video_id = video.video_id
    if store.exists(tracks_key(video_id)):
        row = read_row(store, video_id)
        counts = Counts(
            frames=row.frames, detections=row.detections, rows=row.rows, tracks=row.tracks
        )
        if row.error is None:
            start, version = from_text(row.start), row.version or video.version
            video = replace(video, camera=row.camera, start=start, version=version)
        return VideoOutcome(
            video,
            counts,
            0.0,
            length_s=row.length_s,
            partial=row.partial,
            input_size=row.input_size,
            input_size_why=row.input_size_why,
        )
    if store.exists(error_key(video_id)):
        return VideoOutcome(video, Counts(), 0.0, known_failure(store, video_id))
    return None

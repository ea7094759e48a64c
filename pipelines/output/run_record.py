"""What a run leaves behind about itself: `run.json` at its start, `summary.json` at its end."""

from __future__ import annotations

import json
import logging
import platform
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jde_ray.pipelines.config import (
    ROW_FORMAT,
    VERSION,
    DetectionConfig,
    Precision,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.row_writer import error_key, tracks_key
from jde_ray.pipelines.output.work import VideoRow, Work, known_failure, read_row, summary_key
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.tracking.stages import wire_format

logger = logging.getLogger(__name__)

_LIBRARIES = ("ray", "torch", "numpy", "scipy", "pyarrow", "av", "opencv-python-headless")


def file_metadata(config: TrackConfig) -> dict[str, str]:
    """What every Parquet file of a run says about it."""
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
    try:
        store = open_store(out)
        text = json.dumps(record, indent=1, sort_keys=True)
        if store.put_if_absent("run.json", f"{text}\n".encode()):
            return store
        content = store.get("run.json")
    except (ValueError, OSError) as error:
        raise RunError(f"out: {out} cannot be used ({error})", ExitCode.REFUSED) from error
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
                f" accepted is {ROW_FORMAT}); its files can be read, but for more tracks choose"
                " another folder",
                ExitCode.OTHER_CONFIGURATION,
            )
        keys = _differences(before["config"], config.to_dict())
        names = {key for key, _, _ in keys}
        if "tracking.association" in names:  # which brings settings of its own
            follows = ("tracking.", "detection.score_threshold")
            keys = [
                k for k in keys if k[0].endswith(".association") or not k[0].startswith(follows)
            ]
        elif "tracking.high_score" in names:  # --conf, of which the detector's threshold follows
            keys = [k for k in keys if k[0] != "detection.score_threshold"]
        said = {"tracking.high_score": "conf"}
        text = "; ".join(f"{said.get(key, key)}: {old} there, {new} here" for key, old, new in keys)
        raise RunError(
            f"out: {out} belongs to another configuration ({text}); choose another folder"
            " (--overwrite does not change that)",
            ExitCode.OTHER_CONFIGURATION,
        )
    return store


def parse_record(content: bytes) -> dict[str, Any]:
    """What `run.json` says: a mapping with a `config_hash` and the mapping `config`.

    Raises:
        ValueError: If it is something else.
    """
    record = json.loads(content)
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ValueError("got other JSON, accepted is what a run writes")
    if not isinstance(record.get("config_hash"), str):
        raise ValueError(f"config_hash: got {record.get('config_hash')!r}, accepted is a text")
    return record


def recorded_precision(out: str) -> Precision | None:
    """Arithmetic of the run that OUT belongs to, None for a new OUT or one that cannot be read."""
    try:
        before = json.loads(open_store(out).get("run.json"))
        recorded: Precision = before["config"]["detection"]["precision"]
        DetectionConfig(precision=recorded)
    except (ValueError, OSError, KeyError, TypeError):
        return None  # open_out says what is wrong with it
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
        elif before != after and f"{prefix}{key}" != "detection.weights":
            found.append((f"{prefix}{key}", before, after))
    return found


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the videos of a folder that have tracks, and the number of those that failed."""

    videos: int = 0
    failed: int = 0
    frames: int = 0
    detections: int = 0
    rows: int = 0
    tracks: int = 0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a call did, and what OUT holds after it.

    Counts are of this call; those of all calls are in `folder`.

    Attributes:
        run_id: Of the call alone.
        started: When it began, UTC, ISO 8601.
        ended: When it ended, likewise.
        videos_failed: Of this call, sources without a video included.
        videos_skipped: Videos that had tracks.
        videos_failed_before: Videos left alone because they failed in an earlier call.
        videos_drawn: Of `--save-video`, videos of earlier calls included.
        damaged: Of the frames, those with missing data that the decoder concealed.
        dropped: What was left out, by cause.
        seconds: Wall clock of the run, and working time of decode, detect and associate added up
            over all their workers.
        frames_per_second: Frames over those seconds.
        frames_seen: Frames that came out of the network, those of unfinished videos included.
        folder: Sums over all videos in the folder (of the partition, where there are several).
        videos: A line for each video of the call, sorted by id.
        others: A line for each video in the folder that was no source of this call.
        errors: A failed video's `video`, `reason`, `detail` and `frame`; of this call.
        changed: Videos that were skipped though their file has changed since it was tracked.
        redone: Ids of videos done by a run with `--overwrite` that was interrupted: the same
            command goes on with the others.
        passes: How often unfinished videos were planned.
    """

    out: str
    run_id: str = ""
    started: str = ""
    ended: str = ""
    videos_done: int
    videos_failed: int
    videos_skipped: int
    videos_failed_before: int = 0
    videos_drawn: int = 0
    frames: int
    damaged: int
    detections: int
    rows: int
    tracks: int
    dropped: dict[str, int]
    seconds: dict[str, float]
    frames_per_second: dict[str, float]
    frames_seen: int = 0
    folder: Totals = Totals()
    videos: list[VideoRow] = field(default_factory=list)
    others: list[VideoRow] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    redone: list[str] = field(default_factory=list)
    passes: int = 1
    exit_code: ExitCode = ExitCode.DONE

    def to_json(self) -> str:
        """Text of `summary.json`."""
        return json.dumps(asdict(self) | {"exit_code": int(self.exit_code)}, indent=1) + "\n"


def summarize(
    out: str,
    work: Work,
    outcomes: Iterable[VideoOutcome],
    seconds: dict[str, float],
    *,
    passes: int = 1,
    frames_seen: int = 0,
    videos_drawn: int = 0,
    overwrite: bool = False,
    interrupted: ExitCode | None = None,
) -> Summary:
    """Add up the outcomes of a run that ends now.

    Args:
        out: Address of the store.
        work: As planned at the start.
        outcomes: Of the videos that ended in this run.
        seconds: By stage; that of `associate` is added here.
        passes: How often unfinished videos were planned.
        frames_seen: Frames that came out of the network.
        videos_drawn: Videos whose tracks were drawn on them.
        overwrite: The run does videos again that have tracks.
        interrupted: The exit code if the run did not come to its end.
    """
    ended = sorted([*outcomes, *work.failed], key=lambda outcome: outcome.video.video_id)
    total, rows, errors = Counts(), [], []
    for outcome in ended:
        total.add(outcome.counts)
        rows.append(_row(outcome))
        if outcome.error is not None:
            values = wire_format.error_to_dict(outcome.error)
            errors.append({"video": outcome.video.uri, **(values or {})})
    rows += [replace(_row(outcome), status="failed before") for outcome in work.failed_before]
    for video in work.skipped:
        row = VideoRow(video_id=video.video_id, video="", status="skipped")
        rows.append(replace(work.known.get(video.video_id, row), video=video.uri))
    own = {row.video_id for row in rows}
    others = [row for video_id, row in sorted(work.known.items()) if video_id not in own]
    seconds = {**seconds, "associate": sum(outcome.seconds for outcome in ended)}
    now = datetime.now(UTC)
    began = now - timedelta(seconds=seconds.get("wall", 0.0))
    done = {outcome.video.video_id for outcome in ended if outcome.error is None}
    is_redoing = overwrite and interrupted is not None
    return Summary(
        out=out,
        run_id=uuid.uuid4().hex[:12],
        started=began.isoformat(timespec="seconds"),
        ended=now.isoformat(timespec="seconds"),
        videos_done=len(ended) - len(errors),
        videos_failed=len(errors),
        videos_skipped=len(work.skipped),
        videos_failed_before=len(work.failed_before),
        videos_drawn=videos_drawn,
        frames=total.frames,
        damaged=total.damaged,
        detections=total.detections,
        rows=total.rows,
        tracks=total.tracks,
        dropped=dict(sorted(total.dropped.items())),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        frames_per_second={
            stage: round(total.frames / value, 2) for stage, value in seconds.items() if value > 0
        },
        frames_seen=max(frames_seen, total.frames),
        folder=_totals([*rows, *others]),
        videos=sorted(rows, key=lambda row: row.video_id),
        others=others,
        errors=errors,
        changed=[video.uri for video in work.changed],
        redone=sorted(work.redone | done) if is_redoing else [],
        passes=passes,
        exit_code=interrupted or (ExitCode.SOME_FAILED if errors else ExitCode.DONE),
    )


def put_summary(store: ObjectStore, summary: Summary, share: tuple[int, int]) -> None:
    """Put `summary.json`, replacing the one before.

    Raises:
        RunError: If it cannot be written, and the run was not interrupted.
    """
    try:
        store.put(summary_key(share), summary.to_json().encode())
    except OSError as error:
        if summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            logger.warning("%s was not written: %s", summary_key(share), error)
            return
        raise RunError(
            f"out: {store.uri}/{summary_key(share)} cannot be written ({error}); the tracks are"
            " there, and the same command writes it once it can",
            ExitCode.INTERNAL,
        ) from error


def _totals(rows: Sequence[VideoRow]) -> Totals:
    tracked = [row for row in rows if row.status in ("done", "skipped")]
    names = ("frames", "detections", "rows", "tracks")
    sums = {name: sum(getattr(row, name) for row in tracked) for name in names}
    return Totals(videos=len(tracked), failed=len(rows) - len(tracked), **sums)


def _row(outcome: VideoOutcome) -> VideoRow:
    counts = {name: n for name, n in asdict(outcome.counts).items() if name != "dropped"}
    return VideoRow(
        video_id=outcome.video.video_id,
        video=outcome.video.uri,
        status="done" if outcome.error is None else "failed",
        error=None if outcome.error is None else str(outcome.error),
        version=outcome.video.source_version,
        **counts,
    )


def committed_outcome(store: ObjectStore, video: Video) -> VideoOutcome | None:
    """Outcome of a video as the store has it, None if it has neither tracks nor an error.

    For videos whose association actor died after the commit: what was dropped is not known then.
    """
    video_id = video.video_id
    if store.exists(tracks_key(video_id)):
        row = read_row(store, video_id)
        counts = Counts(
            frames=row.frames, detections=row.detections, rows=row.rows, tracks=row.tracks
        )
        return VideoOutcome(video, counts, 0.0)
    if store.exists(error_key(video_id)):
        return VideoOutcome(video, Counts(), 0.0, known_failure(store, video_id))
    return None

"""What a run leaves behind about itself: `run.json` at its start, `summary.json` at its end.

Also what is left to do in an OUT: committed videos are passed over without being opened.
"""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import checkpoints, wire
from pipelines.config import VERSION, Precision, ResourceConfig, TrackConfig
from pipelines.errors import ExitCode, RunError, VideoError
from pipelines.schema import Counts, Video, VideoOutcome
from pipelines.sink import error_key, tracks_key, video_key, write_error
from pipelines.storage import ObjectStore, open_store

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
        before = json.loads(store.get("run.json"))
    except (ValueError, OSError) as error:
        raise RunError(f"out: {out} cannot be used ({error})", ExitCode.REFUSED) from error
    if before.get("config_hash") != record["config_hash"]:
        keys = _differences(before.get("config", {}), config.to_dict())
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
            f"out: {out} belongs to another configuration ({text}); choose another folder",
            ExitCode.OTHER_CONFIGURATION,
        )
    return store


def recorded_precision(out: str) -> Precision | None:
    """Arithmetic of the run that OUT belongs to, None for a new OUT or one that cannot be read."""
    try:
        before = json.loads(open_store(out).get("run.json"))
        recorded: Precision = before["config"]["detection"]["precision"]
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


@dataclass(frozen=True)
class Work:
    """What is left to do: videos to track, videos committed before, failures known already."""

    todo: list[Video]
    skipped: list[Video]
    failed: list[VideoOutcome]


def plan_work(
    store: ObjectStore,
    videos: Sequence[Video],
    failures: Iterable[tuple[Video, VideoError]],
    *,
    overwrite: bool,
    retry_errors: bool,
) -> Work:
    """Split videos by what OUT says of them.

    Args:
        store: Of the run.
        videos: All of them.
        failures: Sources in which no video was found; they get their error record here.
        overwrite: Remove what there is of these videos and do them again.
        retry_errors: Remove the error records of these videos and do them again.
    """
    committed, known = set(store.list("tracks/")), set(store.list("errors/"))
    kept = checkpoints.find_videos(store)
    work = Work([], [], [])
    for video in videos:
        tracks, error = tracks_key(video.video_id), error_key(video.video_id)
        if video.video_id in kept and (tracks in committed or error in known or overwrite):
            checkpoints.clear(store, video.video_id)  # of a run that ended before it could
        if tracks in committed and not overwrite:
            work.skipped.append(video)
            continue
        if error in known and not (overwrite or retry_errors):
            before = wire.error_from_dict(json.loads(store.get(error)))
            work.failed.append(VideoOutcome(video, Counts(), 0.0, before))
            continue
        if tracks in committed or error in known:
            for key in (tracks, error, video_key(video.video_id)):
                store.delete(key)
        work.todo.append(video)
    for video, failure in failures:
        store.delete(error_key(video.video_id))
        write_error(store, video, failure)
        work.failed.append(VideoOutcome(video, Counts(), 0.0, failure))
    return work


@dataclass(frozen=True, kw_only=True)
class VideoRow:
    """One line of the summary."""

    video_id: str
    video: str
    status: str  # done, failed, skipped
    frames: int = 0
    damaged: int = 0
    detections: int = 0
    rows: int = 0
    tracks: int = 0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did. Counts are of this run; `videos_skipped` were committed by earlier ones.

    Attributes:
        damaged: Of the frames, those with missing data that the decoder concealed.
        dropped: What was left out, by cause.
        seconds: Wall clock of the run, and working time of decode, detect and associate added up
            over all their workers.
        frames_per_second: Frames over those seconds.
        videos: A line for each, sorted by id.
        errors: A failed video's `video`, `reason`, `detail` and `frame`.
        passes: How often unfinished videos were planned.
    """

    out: str
    videos_done: int
    videos_failed: int
    videos_skipped: int
    frames: int
    damaged: int
    detections: int
    rows: int
    tracks: int
    dropped: dict[str, int]
    seconds: dict[str, float]
    frames_per_second: dict[str, float]
    videos: list[VideoRow] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    passes: int = 1
    exit_code: ExitCode = ExitCode.DONE

    def to_json(self) -> str:
        """Text of `summary.json`."""
        return json.dumps(asdict(self) | {"exit_code": int(self.exit_code)}, indent=1) + "\n"


def summary_key(share: tuple[int, int]) -> str:
    """Where a run's summary goes; each of several partitions has its own."""
    part, of = share
    return "summary.json" if of == 1 else f"summary-{part}-of-{of}.json"


def summarize(
    out: str,
    work: Work,
    outcomes: Iterable[VideoOutcome],
    seconds: dict[str, float],
    *,
    passes: int = 1,
    interrupted: ExitCode | None = None,
) -> Summary:
    """Add up the outcomes of a run.

    Args:
        out: Address of the store.
        work: As planned at the start.
        outcomes: Of the videos that ended in this run.
        seconds: By stage; that of `associate` is added here.
        passes: How often unfinished videos were planned.
        interrupted: The exit code if the run did not come to its end.
    """
    ended = sorted([*outcomes, *work.failed], key=lambda outcome: outcome.video.video_id)
    total, rows, errors = Counts(), [], []
    for outcome in ended:
        total.add(outcome.counts)
        rows.append(_row(outcome))
        if outcome.error is not None:
            values = wire.error_to_dict(outcome.error)
            errors.append({"video": outcome.video.uri, **(values or {})})
    skipped = (
        VideoRow(video_id=video.video_id, video=video.uri, status="skipped")
        for video in work.skipped
    )
    seconds = {**seconds, "associate": sum(outcome.seconds for outcome in ended)}
    return Summary(
        out=out,
        videos_done=len(ended) - len(errors),
        videos_failed=len(errors),
        videos_skipped=len(work.skipped),
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
        videos=sorted([*rows, *skipped], key=lambda row: row.video_id),
        errors=errors,
        passes=passes,
        exit_code=interrupted or (ExitCode.SOME_FAILED if errors else ExitCode.DONE),
    )


def _row(outcome: VideoOutcome) -> VideoRow:
    counts = outcome.counts
    return VideoRow(
        video_id=outcome.video.video_id,
        video=outcome.video.uri,
        status="done" if outcome.error is None else "failed",
        frames=counts.frames,
        damaged=counts.damaged,
        detections=counts.detections,
        rows=counts.rows,
        tracks=counts.tracks,
        error=None if outcome.error is None else str(outcome.error),
    )


def committed_outcome(store: ObjectStore, video: Video) -> VideoOutcome | None:
    """Outcome of a video as the store has it, None if it has neither tracks nor an error.

    For videos whose association actor died after the commit: what was dropped is not known then.
    """
    video_id = video.video_id
    if store.exists(tracks_key(video_id)):
        file = pq.ParquetFile(io.BytesIO(store.get(tracks_key(video_id))))
        ids = file.read(columns=["track_id"])["track_id"]
        known = file.metadata.metadata
        counts = Counts(
            frames=int(known[b"num_frames"]),
            detections=int(known.get(b"num_detections", 0)),  # not in files of earlier versions
            rows=len(ids),
            tracks=len(pc.unique(ids)),
        )
        return VideoOutcome(video, counts, 0.0)
    if store.exists(error_key(video_id)):
        error = wire.error_from_dict(json.loads(store.get(error_key(video_id))))
        return VideoOutcome(video, Counts(), 0.0, error)
    return None

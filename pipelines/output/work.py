"""Plan a run: the videos left to do and the results of earlier runs in OUT. Opens no video.

Results of earlier runs are read from their `summary.json`. For a video in no summary, since its run
was killed, they are read from the footer of its file of tracks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import pyarrow as pa

from jde_ray.pipelines.errors import Reason, VideoError, error_from_dict
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.output import checkpoints
from jde_ray.pipelines.output.layout import (
    ERRORS_PREFIX,
    RUN_KEY,
    SUMMARY_PREFIX,
    TRACKS_PREFIX,
    error_key,
    list_ids,
    summary_key,
    tracks_key,
    with_results,
)
from jde_ray.pipelines.output.result_files import write_error
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import StorageError
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.wall_clock import to_text

logger = logging.getLogger(__name__)

_READERS = 16  # threads that read the ends of files
_FEW = 20  # videos whose files are read for what a summary does not say


@dataclass(frozen=True, kw_only=True)
class VideoRow:
    """One line of the summary.

    Attributes:
        status: `done` or `failed` in this call, `skipped` or `failed before` in an earlier one.
        version: Version that changes with the content of the video's file; empty if unknown.
        length_s: Time that the tracked frames cover, in seconds; 0 if not known.
        partial: Damage that ended the video, if its tracks end there (`--keep-partial`).
        camera: Camera of the video; None if unknown.
        start: When the recording began, ISO 8601 in UTC; None if unknown.
        input_size: Input size that was chosen for the video; empty if the run has one for all.
        input_size_why: The reason, for people.
    """

    video_id: str
    video: str
    status: str
    frames: int = 0
    damaged: int = 0
    detections: int = 0
    crops: int = 0
    rows: int = 0
    tracks: int = 0
    error: str | None = None
    version: str = ""
    length_s: float = 0.0
    partial: str = ""
    camera: str | None = None
    start: str | None = None
    input_size: str = ""
    input_size_why: str = ""


@dataclass(frozen=True)
class Work:
    """Videos left to do, and videos done before.

    Attributes:
        todo: Videos to track.
        skipped: Videos that have tracks already.
        failed: Sources of this call without a video.
        failed_before: Videos that failed in an earlier call and are not tried again.
        stale: Ids of videos in `todo` that have results, which will be replaced.
        afresh: Ids of videos to track from frame 0 although they have checkpoints.
        known: Rows by id of all videos in the folder that have tracks.
        changed: Skipped videos whose file has changed since they were tracked.
        relabelled: Skipped videos for which this call states another camera or start.
        redone: Ids of videos done by an interrupted run with `--overwrite` that this run continues.
    """

    todo: list[Video]
    skipped: list[Video]
    failed: list[VideoOutcome]
    failed_before: list[VideoOutcome] = field(default_factory=list)
    stale: frozenset[str] = frozenset()
    afresh: frozenset[str] = frozenset()
    known: dict[str, VideoRow] = field(default_factory=dict)
    changed: list[Video] = field(default_factory=list)
    relabelled: list[Video] = field(default_factory=list)
    redone: frozenset[str] = frozenset()


def plan_work(
    store: ObjectStore,
    videos: Sequence[Video],
    failures: Iterable[tuple[Video, VideoError]],
    *,
    overwrite: bool,
    retry_errors: bool,
    share: tuple[int, int] = (1, 1),
) -> Work:
    """Sort videos by their state in OUT; removes no results.

    A video whose tracks end at damage is tracked again if its file has changed: it may be whole.

    Args:
        store: OUT.
        videos: All videos of this call.
        failures: Sources in which no video was found; their error records are written here, unless
            they have tracks.
        overwrite: Track all videos again, including those that have results.
        retry_errors: Track videos that failed before again.
        share: The partition.
    """
    committed = list_ids(store, TRACKS_PREFIX)
    errors = list_ids(store, ERRORS_PREFIX)
    kept = checkpoints.find_videos(store)
    before = _Before.read(store, share)
    work = Work([], [], [])
    redone: set[str] = set()
    for video in videos:
        video_id = video.video_id
        is_redone = overwrite and before.has_redone(video)
        if video_id in committed and (not overwrite or is_redone):
            work.skipped.append(video)
            redone |= {video_id} if is_redone else set()
        elif video_id in errors and not (overwrite or retry_errors):
            error = known_failure(store, video_id)
            work.failed_before.append(VideoOutcome(video, Counts(), 0.0, error))
        else:
            work.todo.append(video)
            continue
        if video_id in kept:  # the run ended before it could remove them
            checkpoints.clear(store, video_id)
    for video, failure in failures:
        if video.video_id not in committed:  # existing tracks take precedence
            store.delete(error_key(video.video_id))
            write_error(store, video, failure)
        work.failed.append(VideoOutcome(video, Counts(), 0.0, failure))
    todo = {video.video_id for video in work.todo}
    others = committed - todo if share == (1, 1) else set()
    known = _rows(store, {video.video_id for video in work.skipped} | others, before.rows)
    mended = {
        video.video_id
        for video in work.skipped
        if known[video.video_id].partial and _is_changed(video, known)
    }
    todo |= mended
    work = replace(
        work,
        todo=[video for video in videos if video.video_id in todo],
        skipped=[video for video in work.skipped if video.video_id not in mended],
    )
    known = {video_id: row for video_id, row in known.items() if video_id not in mended}
    return replace(
        work,
        stale=frozenset(with_results(store, todo)),
        afresh=frozenset(kept & (todo if overwrite else todo & errors)),
        known=known,
        changed=[video for video in work.skipped if _is_changed(video, known)],
        relabelled=[
            video for video in work.skipped if _is_relabelled(video, known[video.video_id])
        ],
        redone=frozenset(redone),
    )


def accept(store: ObjectStore, work: Work, share: tuple[int, int]) -> None:
    """Remove objects that the run makes obsolete, when it is certain to start.

    These are checkpoints that the run will not resume, and summaries of videos that it tracks
    again. Tracks stay until they are replaced, video by video.
    """
    for video_id in work.afresh:
        checkpoints.clear(store, video_id)
    if work.stale:
        own, (_, of) = summary_key(share), share
        for key in list(store.list(SUMMARY_PREFIX)):
            if key == own or of == 1 or not key.endswith(f"-of-{of}.json"):
                store.delete(key)


def known_failure(store: ObjectStore, video_id: str) -> VideoError:
    """The error in a video's record; a different one if the record cannot be read."""
    key = error_key(video_id)
    try:
        error = error_from_dict(json.loads(store.get(key)))
        if error is None:
            raise ValueError("it is null")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as caught:
        text = " ".join(f"{type(caught).__name__}: {caught}".split())
        detail = f"{key} cannot be read ({text}); --retry-errors does the video again"
        return VideoError(Reason.INTERNAL, detail)
    return error


def _is_changed(video: Video, known: dict[str, VideoRow]) -> bool:
    before = known[video.video_id].version
    return bool(before and video.source_version) and before != video.source_version


def _is_relabelled(video: Video, row: VideoRow) -> bool:
    stated = {"camera": video.camera, "start": to_text(video.start)}
    return not row.error and any(
        value is not None and value != getattr(row, name) for name, value in stated.items()
    )


@dataclass(frozen=True)
class _Before:
    """Content of all summaries: rows of videos with tracks, and ids redone by `--overwrite`."""

    rows: dict[str, VideoRow]
    redone: frozenset[str]

    @staticmethod
    def read(store: ObjectStore, share: tuple[int, int]) -> _Before:
        """Read the summaries of all partitions; unreadable ones are ignored and logged."""
        rows: dict[str, VideoRow] = {}
        redone: frozenset[str] = frozenset()
        for key in store.list(SUMMARY_PREFIX):
            try:
                values = json.loads(store.get(key))
                lines = map(_row_from, [*values["videos"], *values["others"]])
                rows |= {row.video_id: row for row in lines if row is not None}
                if key == summary_key(share):
                    redone = frozenset(map(str, values["redone"]))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                logger.info("%s cannot be read: %s", key, error)
        return _Before(rows, redone)

    def has_redone(self, video: Video) -> bool:
        """Whether an interrupted `--overwrite` has done this video and its file has not changed."""
        if video.video_id not in self.redone or video.video_id not in self.rows:
            return False
        return self.rows[video.video_id].version == video.source_version


def _row_from(values: dict[str, Any]) -> VideoRow | None:
    """A row of a video with tracks.

    Raises:
        ValueError: If a value has a wrong type.
    """
    if values["status"] not in ("done", "skipped") or values["error"] is not None:
        return None
    later = {"length_s": 0.0, "partial": "", "crops": 0, "camera": None, "start": None}
    values = {**later, **values}  # earlier versions had none
    row = VideoRow(**{one.name: values[one.name] for one in fields(VideoRow)})
    for one in fields(VideoRow):
        wanted = {"int": int, "float": float}.get(str(one.type), str)
        is_unknown = getattr(row, one.name) is None and str(one.type) == "str | None"
        if not is_unknown and type(getattr(row, one.name)) is not wanted:
            raise ValueError(f"{one.name}: got {getattr(row, one.name)!r}")
    return replace(row, status="skipped")


def _rows(
    store: ObjectStore, wanted: Collection[str], before: dict[str, VideoRow]
) -> dict[str, VideoRow]:
    """Rows of videos with tracks, from the last summary, else from the footers of their files."""
    unknown = sorted(video_id for video_id in wanted if video_id not in before)
    rows = {video_id: before[video_id] for video_id in wanted if video_id in before}
    old = [video_id for video_id, row in rows.items() if row.frames and not row.length_s]
    if len(old) <= _FEW:  # of a version that kept no lengths; of many it would take long
        rows |= {one: replace(rows[one], length_s=read_row(store, one).length_s) for one in old}
    if unknown:
        with ThreadPoolExecutor(_READERS) as readers:
            read_one = partial(read_row, store, vid_stride=_vid_stride(store))
            read: Iterator[VideoRow] = readers.map(read_one, unknown)
            rows |= {row.video_id: row for row in read}
    return rows


def _vid_stride(store: ObjectStore) -> int:
    """The stride of the run that OUT belongs to; 1 if its record does not say."""
    try:
        return int(json.loads(store.get(RUN_KEY))["config"]["vid_stride"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 1


def read_row(store: ObjectStore, video_id: str, vid_stride: int | None = None) -> VideoRow:
    """Row of a video with tracks, from its file's footer; an unreadable file sets `error`.

    Args:
        store: OUT.
        video_id: The video.
        vid_stride: Stride of the run; None: as its record says.
    """
    key = tracks_key(video_id)
    row = VideoRow(video_id=video_id, video="", status="skipped")
    try:
        file = open_parquet(store, key)
        facts = FileFacts.of(file.metadata)
        rate = facts.frames_per_second if facts.has_frame_rate else 0.0
        stride = _vid_stride(store) if vid_stride is None else vid_stride
        return replace(
            row,
            frames=facts.num_frames,
            detections=facts.num_detections,
            tracks=facts.num_tracks or 0,
            rows=file.metadata.num_rows,
            version=facts.video_version,
            partial=facts.partial,
            input_size=facts.input_size,
            input_size_why=facts.input_size_why,
            camera=facts.camera,
            start=to_text(facts.start),
            length_s=round(facts.num_frames * stride / rate, 3) if rate > 0 else 0.0,
        )
    except (OSError, ValueError, KeyError, VideoError, pa.ArrowException) as error:
        text = f"{type(error).__name__}: {error}"
        remedy = "delete it, and the same command does the video"
        if isinstance(error, StorageError | PermissionError):  # the file may be whole
            remedy = "the same command reads it once it can"
        text = f"{key} cannot be read ({text}); {remedy}"
        return replace(row, error=" ".join(text.split()))

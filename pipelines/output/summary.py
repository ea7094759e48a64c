"""`summary.json`: result of a call and content of the folder."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from jde_ray.pipelines.errors import ExitCode, RunError, VideoError, error_to_dict
from jde_ray.pipelines.output.layout import summary_key
from jde_ray.pipelines.output.run_record import Totals, _row, _totals
from jde_ray.pipelines.output.work import VideoRow, Work
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.structures import Counts, VideoOutcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Result of one call, and the content of OUT after it.

    Counts refer to this call; `folder` holds those of all calls.

    Attributes:
        run_id: Random id of this call.
        started: Start of the call, UTC, ISO 8601.
        ended: End of the call, UTC, ISO 8601.
        videos_partial: Those of them whose tracks end at damage of the file (`--keep-partial`).
        videos_failed: Videos that failed in this call, including sources without a video.
        videos_skipped: Videos that had tracks already.
        videos_failed_before: Videos not tried because they failed in an earlier call.
        videos_without_camera: Tracked videos of the call, also by earlier calls, whose camera is
            unknown: `camera` is null in their rows.
        videos_without_start: The same for their start and `time`.
        videos_drawn: Videos drawn for `--save-video`, including those of earlier calls.
        videos_cropped: Videos whose tracks were cropped for `--save-crops`, likewise.
        damaged: Frames with missing data that the decoder concealed.
        crops: Detections that the re-identification network looked at (`--reid`).
        dropped: Number of rows and detections left out, by cause.
        seconds: Wall-clock time of the run, and working time of decode, detect and associate, each
            summed over its workers.
        frames_per_second: Frames divided by those seconds.
        frames_seen: Frames processed by the network, including those of unfinished videos.
        frames_by_node: The same by the machine whose detector did it, `ADDRESS/START_OF_RAY_ID`;
            empty without Ray.
        folder: Sums over all videos in the folder (over the partition, if there are several).
        videos: One line per video of the call, sorted by id.
        others: One line per video in the folder that was not a source of this call.
        errors: `video`, `reason`, `detail` and `frame` of each video that failed in this call.
        picture_errors: The same of each video with tracks whose pictures could not be made.
        changed: Skipped videos whose file has changed since it was tracked.
        relabelled: Skipped videos whose rows keep another camera or start than this call states.
        redone: Ids of videos done by an interrupted run with `--overwrite`; the same command
            continues with the others.
        passes: Number of times that unfinished videos were planned.
        on_ray: Whether workers of Ray did the work; small work is done in the process of the call.
        has_report: False if `report.html` could not be written; not in `summary.json`, which is
            written before.
    """

    out: str
    run_id: str = ""
    started: str = ""
    ended: str = ""
    videos_done: int
    videos_partial: int = 0
    videos_failed: int
    videos_skipped: int
    videos_failed_before: int = 0
    videos_without_camera: int = 0
    videos_without_start: int = 0
    videos_drawn: int = 0
    videos_cropped: int = 0
    frames: int
    damaged: int
    detections: int
    crops: int = 0
    rows: int
    tracks: int
    dropped: dict[str, int]
    seconds: dict[str, float]
    frames_per_second: dict[str, float]
    frames_seen: int = 0
    frames_by_node: dict[str, int] = field(default_factory=dict)
    folder: Totals = Totals()  # noqa: RUF009  frozen
    videos: list[VideoRow] = field(default_factory=list)
    others: list[VideoRow] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    picture_errors: list[dict[str, Any]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    redone: list[str] = field(default_factory=list)
    passes: int = 1
    on_ray: bool = True
    has_report: bool = True
    exit_code: ExitCode = ExitCode.DONE

    def to_json(self) -> str:
        """Text of `summary.json`."""
        values = vars(self) | {"exit_code": int(self.exit_code)}
        del values["has_report"]
        return json.dumps(values, indent=1, default=vars) + "\n"  # vars: of totals and rows


def summarize(
    out: str,
    work: Work,
    outcomes: Iterable[VideoOutcome],
    seconds: dict[str, float],
    *,
    run_id: str = "",
    passes: int = 1,
    frames_seen: int = 0,
    frames_by_node: Mapping[str, int] = MappingProxyType({}),
    videos_drawn: int = 0,
    videos_cropped: int = 0,
    pictures_failed: Iterable[tuple[str, VideoError]] = (),
    overwrite: bool = False,
    interrupted: ExitCode | None = None,
    on_ray: bool = True,
) -> Summary:
    """Summary of a run that ends now.

    Args:
        out: Address of the store.
        work: Plan made at the start.
        outcomes: Outcomes of the videos that ended in this run.
        seconds: Working time by stage; that of `associate` is added here.
        run_id: Id of the call; empty makes one.
        passes: Number of times that unfinished videos were planned.
        frames_seen: Frames processed by the network.
        frames_by_node: The same by machine.
        videos_drawn: Number of videos whose tracks were drawn.
        videos_cropped: Number of videos whose tracks were cropped.
        pictures_failed: Address of each video whose pictures could not be made, and why.
        overwrite: Whether the run repeats videos that have tracks.
        interrupted: Exit code of a run that was interrupted.
        on_ray: Whether workers of Ray did the work.
    """
    ended = sorted([*outcomes, *work.failed], key=lambda outcome: outcome.video.video_id)
    total, rows, errors = Counts(), [], []
    for outcome in ended:
        total.add(outcome.counts)
        rows.append(_row(outcome))
        if outcome.error is not None:
            errors.append(_with_video(outcome.video.uri, outcome.error))
    rows += [replace(_row(outcome), status="failed before") for outcome in work.failed_before]
    for video in work.skipped:
        row = VideoRow(video_id=video.video_id, video="", status="skipped")
        rows.append(replace(work.known.get(video.video_id, row), video=video.uri))
    own = {row.video_id for row in rows}
    tracked = [row for row in rows if row.error is None]
    others = [row for video_id, row in sorted(work.known.items()) if video_id not in own]
    seconds = {**seconds, "associate": sum(outcome.seconds for outcome in ended)}
    now = datetime.now(UTC)
    began = now - timedelta(seconds=seconds.get("wall", 0.0))
    done = {outcome.video.video_id for outcome in ended if outcome.error is None}
    num_partial = sum(bool(outcome.partial) for outcome in ended)
    is_redoing = overwrite and interrupted is not None
    undrawn = [_with_video(uri, error) for uri, error in pictures_failed]
    has_failures = errors or num_partial or undrawn
    ending = ExitCode.SOME_FAILED if has_failures else ExitCode.DONE
    return Summary(
        out=out,
        run_id=run_id or uuid.uuid4().hex[:12],
        started=began.isoformat(timespec="seconds"),
        ended=now.isoformat(timespec="seconds"),
        videos_done=len(ended) - len(errors),
        videos_partial=num_partial,
        videos_failed=len(errors),
        videos_skipped=len(work.skipped),
        videos_failed_before=len(work.failed_before),
        videos_without_camera=sum(row.camera is None for row in tracked),
        videos_without_start=sum(row.start is None for row in tracked),
        videos_drawn=videos_drawn,
        videos_cropped=videos_cropped,
        frames=total.frames,
        damaged=total.damaged,
        detections=total.detections,
        crops=total.crops,
        rows=total.rows,
        tracks=total.tracks,
        dropped=dict(sorted(total.dropped.items())),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        frames_per_second={
            stage: round(total.frames / value, 2) for stage, value in seconds.items() if value > 0
        },
        frames_seen=max(frames_seen, total.frames),
        frames_by_node=dict(sorted(frames_by_node.items())),
        folder=_totals([*rows, *others]),
        videos=sorted(rows, key=lambda row: row.video_id),
        others=others,
        errors=errors,
        picture_errors=undrawn,
        changed=[video.uri for video in work.changed],
        relabelled=[video.uri for video in work.relabelled],
        redone=sorted(work.redone | done) if is_redoing else [],
        passes=passes,
        on_ray=on_ray,
        exit_code=interrupted or ending,
    )


def _with_video(uri: str, error: VideoError) -> dict[str, Any]:
    return {"video": uri, **(error_to_dict(error) or {})}


def put_summary(store: ObjectStore, summary: Summary, share: tuple[int, int]) -> None:
    """Write `summary.json`, replacing the previous one.

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

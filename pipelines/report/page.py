"""`report.html`: one self-contained page that shows a run.

Its size is bounded for archives of any size: at most `MAX_LISTED` videos are listed and `MAX_DRAWN`
drawn, and the page says which. All external text is escaped, and the page's content security policy
allows only its own script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from html import escape
from pathlib import Path
from string import Template

import pyarrow as pa

from jde_ray.pipelines.errors import ExitCode, VideoError
from jde_ray.pipelines.output.layout import (
    ERRORS_PREFIX,
    REPORT_KEY,
    RUN_KEY,
    TRACKS_PREFIX,
    error_key,
    list_ids,
)
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.output.work import VideoRow, known_failure
from jde_ray.pipelines.report import sections
from jde_ray.pipelines.report.plots import read_tracked_video
from jde_ray.pipelines.report.sections import Listed
from jde_ray.pipelines.storage.base import ObjectStore

logger = logging.getLogger(__name__)

MAX_DRAWN = 50
MAX_LISTED = 1000

_ENDINGS = {
    ExitCode.DONE: "done: every video has tracks",
    ExitCode.SOME_FAILED: "finished, some videos failed",
}


def write_report(store: ObjectStore, summary: Summary) -> bool:
    """Put `report.html` into the store, unless the existing page is up to date.

    Args:
        store: OUT with its `run.json`.
        summary: Summary of this run; videos of earlier runs in the store are shown too.

    Returns:
        Whether the page is up to date. Errors are logged in one line; they do not fail the run.
    """
    has_pictures = summary.videos_drawn or summary.videos_cropped
    did_nothing = not (summary.videos_done or summary.videos_failed or has_pictures)
    try:
        if did_nothing and store.exists(REPORT_KEY):
            return True
        store.put(REPORT_KEY, build_report(store, summary).encode("utf-8", "replace"))
    except Exception as error:  # noqa: BLE001
        text = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning("%s was not written: %s", REPORT_KEY, text)
        return False
    return True


def build_report(
    store: ObjectStore,
    summary: Summary,
    *,
    max_drawn: int = MAX_DRAWN,
    max_listed: int = MAX_LISTED,
) -> str:
    """Text of the page; equal inputs give equal text, except for the seconds of the summary."""
    record = json.loads(store.get(RUN_KEY))
    rows = _all_rows(store, summary)
    shown = _shown(rows, max_listed)
    listed = _read(store, shown, record["config"]["vid_stride"], max_drawn)
    ending = _ENDINGS.get(summary.exit_code, summary.exit_code.name.lower())
    if summary.videos_partial and not summary.videos_failed:
        ending = "finished, some videos are partial"
    elif summary.picture_errors and not summary.videos_failed:
        ending = "finished, pictures of some videos are missing"
    if not summary.exit_code and summary.videos_failed_before:
        ending = f"done; failed before: {summary.videos_failed_before}"
    name = summary.out.rstrip("/").rpartition("/")[2] or summary.out
    page = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return Template(page).substitute(
        style=Path(__file__).with_name("style.css").read_text(encoding="utf-8"),
        script_hash=_script_hash(page),
        title=f"People tracked: {escape(name)}",
        out=escape(summary.out),
        mood="failed" if summary.exit_code else "done",
        ending=f"{escape(ending)} (exit code {int(summary.exit_code)})",
        tiles=sections.tiles(summary),
        lead=sections.lead(summary, rows),
        stages=sections.stages(summary),
        losses=sections.losses(summary),
        videos=sections.video_table(listed, len(rows)),
        plots=sections.plots(store, listed, len(rows)),
        people=sections.people(store, listed),
        facts=sections.facts(record),
    )


def _script_hash(page: str) -> str:
    """Hash of the page's own script, the only one that its policy allows."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _all_rows(store: ObjectStore, summary: Summary) -> list[VideoRow]:
    """Videos of this run and of earlier ones, sorted by failure first, then by id."""
    rows = {row.video_id: row for row in [*summary.others, *summary.videos]}
    for prefix, status in ((TRACKS_PREFIX, "skipped"), (ERRORS_PREFIX, "failed before")):
        for video_id in list_ids(store, prefix):
            rows.setdefault(video_id, VideoRow(video_id=video_id, video="", status=status))
    order = ["failed", "failed before"]
    return sorted(
        rows.values(),
        key=lambda row: (order.index(row.status) if row.status in order else 2, row.video_id),
    )


def _shown(rows: list[VideoRow], most: int) -> list[VideoRow]:
    """The first `most` rows; if there are more, failed videos take at most half of them."""
    failed = sum(row.status.startswith("failed") for row in rows)
    others = len(rows) - failed
    room = max(most // 2, most - others)
    shown = rows[:failed][:room]
    return shown + rows[failed:][: most - len(shown)]


def _read(
    store: ObjectStore, rows: Iterable[VideoRow], vid_stride: int, max_drawn: int
) -> list[Listed]:
    listed, left = [], max_drawn
    for row in rows:
        if row.status.startswith("failed"):
            listed.append(Listed(row if row.error else _known_failure(store, row)))
        elif left <= 0:
            listed.append(Listed(row))
        else:
            left -= 1
            listed.append(_read_one(store, row, vid_stride))
    return listed


def _read_one(store: ObjectStore, row: VideoRow, vid_stride: int) -> Listed:
    try:
        tracked = read_tracked_video(store, row.video_id, vid_stride)
    except (OSError, ValueError, KeyError, VideoError, pa.ArrowException) as error:
        text = f"cannot be shown: {type(error).__name__}: {error}"
        return Listed(replace(row, error=" ".join(text.split())))
    known = replace(
        row,
        video=row.video or tracked.uri,
        frames=len(tracked.people),
        tracks=tracked.num_tracks,
        rows=tracked.num_rows,
        partial=tracked.partial,
    )
    return Listed(known, tracked)


def _known_failure(store: ObjectStore, row: VideoRow) -> VideoRow:
    video = ""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        video = str(json.loads(store.get(error_key(row.video_id)))["video"])
    return replace(row, video=video, error=str(known_failure(store, row.video_id)))

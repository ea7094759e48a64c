"""What a run has found, for people: a table of the videos, one line per error, totals, places."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jde_ray.jobs.console.progress import length
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import DAMAGE, ExitCode
from jde_ray.pipelines.output.layout import written_keys

if TYPE_CHECKING:
    from jde_ray.jobs.console.messages import Messages
    from jde_ray.pipelines.output.summary import Summary
    from jde_ray.pipelines.output.work import VideoRow

MAX_TABLE_ROWS = 20
MAX_ERRORS = 50
MAX_NAMES = 5  # in a line
_WITHOUT_TERMINAL = 300  # columns: a file or a pipe has no width, and lines are never cut

_CAUSES = {
    "max_detections": "{} detections over the limit per frame (--max-detections)",
    "degenerate_box": "{} detections without area",
    "min_box_area": "{} boxes of tracks, too small (--min-box-area)",
}
_STATUS = {"done": "", "skipped": "done before"}


def show_summary(
    summary: Summary,
    console: Console | None = None,
    *,
    outputs: OutputConfig = OutputConfig(),
    notes: Sequence[str] = (),
    troubles: Sequence[str] = (),
    quiet: bool = False,
    messages: Messages | None = None,
) -> None:
    """Print a table of the videos, one line per error, the totals and the result's place.

    Args:
        summary: Of the run.
        console: Where the table goes; None: standard output.
        outputs: What was written beside the tracks.
        notes: Further lines for the end.
        troubles: Further lines about what failed.
        quiet: Print errors only.
        messages: The log file, which gets all of it.
    """
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else _WITHOUT_TERMINAL)
    troubles = [" ".join(line.split()) for line in (*_troubles(summary), *troubles)]
    for line in troubles:
        print(line, file=sys.stderr, flush=True)
    if not quiet:
        _print(console, summary, outputs, notes)
    if messages is not None:
        text = io.StringIO()
        _print(Console(file=text, width=_WITHOUT_TERMINAL), summary, outputs, notes)
        for line in [*troubles, *text.getvalue().splitlines()]:
            messages.record(line)


def _print(console: Console, summary: Summary, outputs: OutputConfig, notes: Sequence[str]) -> None:
    rows = _listed(summary)
    if rows:
        console.print(_table(rows))
    places = _places(summary, outputs)
    for line in [*_totals(summary), *places, *notes]:
        is_whole = line in places or not console.is_terminal  # paths are copied, lines searched
        console.print(line, markup=False, highlight=False, soft_wrap=is_whole)


def _listed(summary: Summary) -> list[VideoRow]:
    """Videos for the table: those of this call; also those done before, unless they are many."""
    new = [row for row in summary.videos if row.status in ("done", "failed")]
    before = [row for row in summary.videos if row.status == "skipped" and not row.error]
    return new + before if len(new) + len(before) <= MAX_TABLE_ROWS else new


def _table(rows: Sequence[VideoRow]) -> Table:
    """One line per video, the first ones; another for the rest, and one for all."""
    shown = rows if len(rows) <= MAX_TABLE_ROWS else rows[: MAX_TABLE_ROWS - 1]
    rest = rows[len(shown) :]
    table = Table(box=None, pad_edge=False)
    table.add_column("video", overflow="fold")
    for name in ("people", "frames", "length"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in shown:
        table.add_row(escape(row.video_id), *_figures([row]), _status(row))
    if rest:
        table.add_row(f"... and {len(rest)} more", *_figures(rest), "")
    if len(rows) > 1:
        table.add_row(f"all {len(rows)}", *_figures(rows), "")
    return table


def _figures(rows: Sequence[VideoRow]) -> tuple[str, str, str]:
    """People, frames and length of the videos that have tracks, added up."""
    tracked = [row for row in rows if row.status != "failed"]
    if not tracked:
        return "", "", ""
    seconds = sum(row.length_s for row in tracked)
    is_known = all(row.length_s or not row.frames for row in tracked)
    people, frames = (sum(getattr(row, name) for row in tracked) for name in ("tracks", "frames"))
    return str(people), str(frames), length(seconds) if is_known else "?"


def _status(row: VideoRow) -> str:
    if row.status == "failed":
        return f"failed ({(row.error or '').partition(':')[0]})"
    partial = f"partial ({row.partial.partition(':')[0]})" if row.partial else ""
    return ", ".join(filter(None, (_STATUS.get(row.status, row.status), partial)))


def _troubles(summary: Summary) -> list[str]:
    """One line per failure in this call and per unreadable result in OUT, up to a limit."""
    lines = _failures(summary.errors, "jde:", "failed")
    lines += _failures(summary.picture_errors, "jde: no pictures of", "without pictures")
    partial = [row for row in summary.videos if row.status == "done" and row.partial]
    lines += [
        f"jde: {row.video}: {row.partial}; kept {row.frames} frames before it"
        for row in partial[:MAX_ERRORS]
    ]
    if len(partial) > MAX_ERRORS:
        lines.append(f"jde: ... and {len(partial) - MAX_ERRORS} more partial, see summary.json")
    unreadable = [
        f"jde: {row.error}" for row in summary.videos if row.status == "skipped" and row.error
    ]
    lines += unreadable[:MAX_NAMES]
    if len(unreadable) > MAX_NAMES:
        lines.append(f"jde: ... and {len(unreadable) - MAX_NAMES} more like that")
    return lines


def _failures(errors: Sequence[Mapping[str, Any]], start: str, kind: str) -> list[str]:
    lines = []
    for error in errors[:MAX_ERRORS]:
        where = "" if error.get("frame") is None else f" (frame {error['frame']})"
        lines.append(f"{start} {error['video']}: {error['reason']}: {error['detail']}{where}")
    if len(errors) > MAX_ERRORS:
        lines.append(f"jde: ... and {len(errors) - MAX_ERRORS} more {kind}, see summary.json")
    return lines


def _totals(summary: Summary) -> list[str]:
    wall = summary.seconds.get("wall", 0.0)
    frames = summary.frames_seen if _was_stopped(summary) else summary.frames
    rate = frames / wall if wall > 0 else 0.0
    before = f"{summary.videos_skipped} done before"
    if summary.videos_failed_before:
        before += f", {summary.videos_failed_before} failed before"
    partial = f" ({summary.videos_partial} partial)" if summary.videos_partial else ""
    lines = [f"{summary.videos_done} done{partial}, {summary.videos_failed} failed, {before}"]
    if frames:
        where = "" if summary.on_ray else ", without Ray"
        lines[0] += f"; {frames} frames in {wall:.1f} s ({rate:.1f} frames/s){where}"
    lines += _inputs(summary)
    if len(summary.frames_by_node) > 1:
        each = (f"{number} on {node}" for node, number in summary.frames_by_node.items())
        lines.append(f"frames by machine: {', '.join(each)}")
    lines += _pictures(summary)
    if summary.damaged:
        lines.append(f"{summary.damaged} frames were damaged and concealed by the decoder")
    if 0 < summary.crops < summary.detections:  # all of them goes without saying
        lines.append(_second_look(summary))
    if summary.dropped:
        causes = (_CAUSES.get(cause, f"{{}} {cause}") for cause in summary.dropped)
        texts = (text.format(n) for text, n in zip(causes, summary.dropped.values(), strict=True))
        lines.append(f"left out: {'; '.join(texts)}")
    if summary.changed:
        lines.append(
            f"{len(summary.changed)} done before have a changed file and keep their old tracks: "
            f"{_some(summary.changed)}; --overwrite processes them again"
        )
    lines += _cameras(summary)
    if summary.videos_failed or summary.videos_failed_before:
        lines.append("the next run skips failed videos; --retry-errors tries them again")
    if any(error["reason"] in DAMAGE for error in summary.errors):
        lines.append(
            "--keep-partial --retry-errors keeps the tracks of damaged videos up to the damage"
        )
    return lines


def _inputs(summary: Summary) -> list[str]:
    """The input sizes that were chosen; with a reason for each of a few videos."""
    chosen = [row for row in summary.videos if row.input_size]
    if len(chosen) <= MAX_NAMES:
        return [f"input {row.input_size}: {row.input_size_why} ({row.video})" for row in chosen]
    counts = Counter(row.input_size for row in chosen).most_common()
    sizes = ", ".join(f"{size} of {number}" for size, number in counts)
    return [f"inputs of {len(chosen)} videos: {sizes}; summary.json says why"]


def _pictures(summary: Summary) -> list[str]:
    lines = []
    if summary.videos_drawn:
        kind = "video" if summary.videos_drawn == 1 else "videos"
        lines.append(f"{summary.videos_drawn} {kind} drawn, in {summary.out}/videos")
    if summary.videos_cropped:
        kind = "video" if summary.videos_cropped == 1 else "videos"
        lines.append(f"crops of {summary.videos_cropped} {kind}, in {summary.out}/crops")
    if number := len(summary.picture_errors):
        kind = "video" if number == 1 else "videos"
        lines.append(f"no pictures of {number} {kind} with tracks; the next run tries them again")
    return lines


def _cameras(summary: Summary) -> list[str]:
    """What the cameras and starts of the videos in OUT lack."""
    lines = []
    if summary.relabelled:
        lines.append(
            f"{len(summary.relabelled)} done before keep another camera or start than this call"
            f" states: {_some(summary.relabelled)}; --overwrite processes them again"
        )
    tracked = [row for row in (*summary.videos, *summary.others) if row.error is None]
    nameless = [row.video or row.video_id for row in tracked if row.camera is None]
    if 0 < len(nameless) < len(tracked):
        lines.append(
            f"{len(nameless)} of {len(tracked)} videos have no camera: {_some(nameless)};"
            " --source-pattern or a list's column names it"
        )
    return lines


def _second_look(summary: Summary) -> str:
    share = summary.crops / max(1, summary.detections)
    each = summary.crops / max(1, summary.frames)
    return f"second look: {summary.crops} crops, {each:.1f} a frame, {share:.0%} of the boxes"


def _was_stopped(summary: Summary) -> bool:
    return summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


def _places(summary: Summary, outputs: OutputConfig) -> list[str]:
    """Where the results lie."""
    if _was_stopped(summary):
        return []  # no report yet; the caller says what to do next
    places = ", ".join(written_keys("VIDEO", outputs))
    places = places.replace("mot/VIDEO", "mot/NAME")  # texts are named at the end of a run
    report = [f"report: {summary.out}/report.html"] if summary.has_report else []
    return [f"written to {summary.out}: {places}", *report]


def _some(names: Sequence[str]) -> str:
    """The first names, and the number of the rest."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more

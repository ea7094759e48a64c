"""Sections of the page, as HTML. External text is escaped here and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

from jde_ray.pipelines.formats.tracks import file_name
from jde_ray.pipelines.output.layout import tracks_key, video_key
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.output.work import VideoRow
from jde_ray.pipelines.report.people import contact_sheet
from jde_ray.pipelines.report.plots import (
    MAX_PATHS,
    TrackedVideo,
    draw_paths,
    draw_people,
    format_seconds,
)
from jde_ray.pipelines.report.samples import drawn_frame
from jde_ray.pipelines.storage.base import ObjectStore

_STATUS = {"skipped": "done before"}
_STAGES = ("decode", "detect", "associate")
_CAUSES = {
    "max_detections": "over the cap of max_detections in a frame",
    "degenerate_box": "box without area",
    "min_box_area": "tracked, but smaller than min_box_area",
    "aspect": "tracked, but too wide for mode published",
}


@dataclass(frozen=True)
class Listed:
    """A line of the table of videos; `tracked` holds the video's data if it was read."""

    row: VideoRow
    tracked: TrackedVideo | None = None


def tiles(summary: Summary) -> str:
    """Headline figures of the folder."""
    folder = summary.folder
    tiles = [
        ("videos with tracks", folder.videos, ""),
        ("videos failed", folder.failed, "bad" if folder.failed else ""),
        ("people (tracks)", folder.tracks, ""),
        ("rows", folder.rows, ""),
        ("frames", folder.frames, ""),
    ]
    return "".join(
        f'<div class="card tile {mood}"><b>{_number(number)}</b><span>{name}</span></div>'
        for name, number, mood in tiles
    )


def lead(summary: Summary, rows: Sequence[VideoRow]) -> str:
    """Explanation of the headline figures, and the result of the last call."""
    failed = sum(row.status.startswith("failed") for row in rows)
    text = f"The folder holds {_count(len(rows) - failed, 'video')} with tracks and "
    text += f"{_count(failed, 'error record')}, of all calls. "
    partial = sum(bool(row.partial) for row in rows)
    if partial:
        text += (
            f"{_count(partial, 'video')} with tracks {'is' if partial == 1 else 'are'} partial: "
        )
        text += "the file is damaged, and the tracks end before the damage. "
    if len(rows) - failed != summary.folder.videos:
        text += "Figures above are of this partition's videos. "
    text += "A person who leaves and is not recognised on return counts as another track.</p>"
    wall = summary.seconds.get("wall", 0.0)
    rate = f", {summary.frames / wall:,.1f} frames/s" if wall > 0 else ""
    text += f'<p class="soft">The last call that did any work, run {escape(summary.run_id)}, '
    text += f"from {escape(summary.started)} to {escape(summary.ended)}: "
    text += f"{_count(summary.videos_done, 'video')} done, {_number(summary.videos_failed)} failed,"
    text += f" {_number(summary.videos_skipped)} done before, "
    text += f"{_number(summary.videos_failed_before)} failed before; "
    return f"{text}{_count(summary.frames, 'frame')} in {format_seconds(wall)}{rate}."


def stages(summary: Summary) -> str:
    """Working time by stage, and the bottleneck."""
    seconds = {stage: summary.seconds.get(stage, 0.0) for stage in _STAGES}
    work, wall = sum(seconds.values()), summary.seconds.get("wall", 0.0)
    if work <= 0 or wall <= 0:
        return "<p>No frame was decoded in this run.</p>"
    most = max(seconds, key=lambda stage: seconds[stage])
    lines = [
        f"<tr{' class=most' if stage == most else ''}><td>{stage}</td>"
        f'<td class="bar">{_bar(value / work)}</td><td class="n">{value:,.1f} s</td>'
        f'<td class="n">{_share(value / work)}</td>'
        f'<td class="n">{f"{summary.frames / value:,.1f}" if value else "-"}</td>'
        f'<td class="n">{value / wall:.2f}</td></tr>'
        for stage, value in seconds.items()
    ]
    verdict = f"Bottleneck: <b>{most}</b>, {_share(seconds[most] / work)} of the working time."
    if work < wall / 2:
        verdict = (
            f"Bottleneck: <b>start-up and waiting</b>; the stages worked for {work:,.1f} s of "
            f"{wall:,.1f} s. Most of the working time went to <b>{most}</b>."
        )
    return (
        f"<p>{verdict}</p><table><thead><tr><th>stage</th><th></th><th class=n>working time</th>"
        "<th class=n>share</th><th class=n>frames/s of work</th><th class=n>workers busy</th></tr>"
        f'</thead><tbody>{"".join(lines)}</tbody></table><p class="soft">Working time is added up '
        "over all workers of a stage; <i>workers busy</i> is their mean number over the run of "
        f"{format_seconds(wall)}, start-up included. Passes: {summary.passes}.</p>"
    )


def losses(summary: Summary) -> str:
    """Every video, frame and box of the call, each counted once; a group's shares sum to 100 %."""
    reasons = Counter(sorted(str(error["reason"]) for error in summary.errors))
    failed = [row for row in summary.videos if row.status == "failed"]
    done = [row for row in summary.videos if row.status == "done"]
    unknown = [row for row in done if row.rows > row.detections]  # see committed_outcome
    known = sum(row.rows for row in done) - sum(row.rows for row in unknown)
    lost = {_CAUSES.get(cause, cause): number for cause, number in summary.dropped.items()}
    in_vain = sum(row.rows for row in failed)
    boxes = summary.detections - sum(row.detections for row in unknown)
    boxes += summary.dropped.get("max_detections", 0)
    rest = boxes - known - in_vain - sum(lost.values())
    groups = [
        ("Videos", {"tracked": summary.videos_done - summary.videos_partial,
                    "tracked up to damage": summary.videos_partial,
                    "done before": summary.videos_skipped},
         {f"failed: {reason}": number for reason, number in reasons.most_common()}
         | {"failed before": summary.videos_failed_before}),
        ("Frames", {"in videos with tracks": sum(row.frames for row in done)},
         {"in videos that failed later": sum(row.frames for row in failed)}),
        ("Boxes of the network", {"rows of tracks": known},
         lost | {"in no confirmed track": rest, "tracked in videos that failed later": in_vain}),
    ]  # fmt: skip
    body = "".join(_loss_group(name, kept, dropped) for name, kept, dropped in groups)
    notes = [f"{_count(summary.damaged, 'frame')} had missing data that the decoder concealed; "
             "they are tracked like the others."]  # fmt: skip
    notes.append(
        "Boxes are counted after non-maximum suppression, weak ones too. Boxes below --conf start "
        "no track and only help to keep one, so a large number in no confirmed track is not a loss."
    )
    if unknown:
        notes.append(
            f"For {_count(len(unknown), 'video')}, committed by a worker that died afterwards, "
            "only the rows are known; their boxes are left out here."
        )
    return (
        '<table class="losses"><thead><tr><th></th><th></th><th class=n>number</th>'
        f'<th class=n>share</th></tr></thead>{body}</table><p class="soft">{" ".join(notes)}</p>'
    )


def _loss_group(name: str, kept: dict[str, int], dropped: dict[str, int]) -> str:
    total = sum(kept.values()) + sum(dropped.values())
    lines = [f'<tr class="group"><td>{name}</td><td></td><td class="n">{_number(total)}</td>'
             f'<td class="n">{"100 %" if total else ""}</td></tr>']  # fmt: skip
    for mood, part in (("kept", kept), ("lost", dropped)):
        for what, number in part.items():
            if not number:
                continue
            share = number / total if total else 0.0
            lines.append(
                f'<tr class="{mood}"><td>{escape(what)}</td><td class="bar">{_bar(share)}</td>'
                f'<td class="n">{_number(number)}</td><td class="n">{_share(share)}</td></tr>'
            )
    return f"<tbody>{''.join(lines)}</tbody>"


def video_table(listed: Sequence[Listed], total: int) -> str:
    """Table with a line per listed video, of `total`; the page's script sorts it."""
    if not listed:
        return "<p>There are no videos.</p>"
    heads = [("video", ""), ("status", "")]
    heads += [(name, "n") for name in ("people", "duration", "frames", "median track", "rows")]
    head = "".join(
        f'<th class="{kind}"><button type="button">{name}</button></th>'
        for name, kind in [*heads, ("error", "")]
    )
    names = _names(listed)
    body = "".join(_video_line(one, names[one.row.video_id]) for one in listed)
    text = ""
    if len(listed) < total:
        text = (
            f'<p class="soft">The table lists {_number(len(listed))} of {_count(total, "video")}: '
            "first those that failed, then by id. The others are in summary.json and tracks/.</p>"
        )
    return (
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{text}'
    )


def _video_line(one: Listed, name: str) -> str:
    row, tracked = one.row, one.tracked
    counts: list[float | None] = [None] * 5
    if tracked is not None or row.status == "done" or row.rows:
        counts[0::2] = row.tracks, row.frames, row.rows
    elif row.frames:
        counts[2] = row.frames  # seen before it failed
    if tracked is not None:
        counts[1::2] = tracked.duration_s, tracked.median_track_s
    cells = "".join(
        f'<td class="n" data-v="{"" if value is None else value}">{_cell(value)}</td>'
        for value in counts
    )
    return (
        f'<tr><td title="{escape(row.video or row.video_id)}" data-v="{escape(row.video_id)}">'
        f"{escape(name)}{_recorded(row)}</td><td>{_pill(row)}</td>{cells}"
        f'<td class="error">{escape(row.error or row.partial)}</td></tr>'
    )


def _recorded(row: VideoRow) -> str:
    """Camera and start of a video, as far as they are known."""
    start = "" if row.start is None else f"{row.start.partition('+')[0].replace('T', ' ')} UTC"
    text = ", ".join(filter(None, (row.camera, start)))
    return f'<br><span class="soft">{escape(text)}</span>' if text else ""


def _names(listed: Sequence[Listed]) -> dict[str, str]:
    """Names of the videos' files by id; the id itself where a name is unknown or used twice."""
    names = {one.row.video_id: file_name(one.row.video) for one in listed}
    numbers = Counter(names.values())
    return {i: name if name and numbers[name] == 1 else i for i, name in names.items()}


def plots(store: ObjectStore, listed: Sequence[Listed], total: int) -> str:
    """Both charts of each video that was read."""
    drawn = [one for one in listed if one.tracked is not None]
    text = f"The charts show the first {len(drawn)} of {_count(total, 'video')}, by id. "
    names = _names(listed)
    if not drawn:
        text = "No video has tracks. "
    text += f"Paths follow people's feet; the longest {MAX_PATHS} per video are drawn. A dot marks "
    text += "the end of a path; point at a path for its track and time."
    return f'<p class="soft">{text}</p>' + "".join(
        _plot(store, one, names[one.row.video_id]) for one in drawn
    )


def people(store: ObjectStore, listed: Sequence[Listed]) -> str:
    """The contact sheet of the videos that were read; empty if none has crops."""
    videos = {one.row.video_id: one.tracked for one in listed if one.tracked is not None}
    return contact_sheet(store, videos, _names(listed))


def _plot(store: ObjectStore, one: Listed, name: str) -> str:
    row, video = one.row, one.tracked
    assert video is not None  # noqa: S101 - the caller's choice
    links, picture = [(tracks_key(row.video_id), "rows")], ""
    if store.exists(video_key(row.video_id)):
        links.insert(0, (video_key(row.video_id), "watch"))
        busiest = int(video.people.argmax()) / max(1, len(video.people))
        if (source := drawn_frame(store, row.video_id, busiest)) is not None:
            to = escape(quote(video_key(row.video_id)))
            picture = f'<figure class="sample"><a href="{to}"><img src="{source}" '
            picture += 'alt="A frame with boxes"></a><figcaption>a sample</figcaption></figure>'
    named = " &middot; ".join(f'<a href="{escape(quote(key))}">{text}</a>' for key, text in links)
    most = round(video.people.max())
    read, parts = video.share
    sample = f"; from {read} of {parts} row groups" if video.is_sample else ""
    return (
        f'<article class="card video"><h3>{escape(name)} {_pill(row)}{_recorded(row)}</h3>'
        f'<p class="soft place">{escape(row.video)} &middot; {video.width} x {video.height} '
        f'&middot; {named}</p><div class="plots">{picture}<figure class="time">{draw_people(video)}'
        f"<figcaption>people present; mean {video.people.mean():.1f}, at most {most}{sample}"
        "</figcaption>"
        f"</figure><figure>{draw_paths(video)}<figcaption>{_count(len(video.paths), 'path')} of "
        f"{_count(video.num_tracks, 'track')}</figcaption></figure></div></article>"
    )


def facts(record: dict[str, Any]) -> str:
    """`run.json` as lists of names and values."""
    config = dict(record["config"])
    groups = {name: config.pop(name) for name in ("detection", "tracking")}
    hashed = {"config_hash": record["config_hash"], **config}
    groups = {"run": hashed, **groups, "resources": record["resources"]}
    groups["versions"] = record["versions"]
    text = "<p class=soft>As the first run into this folder recorded them.</p>"
    for name, values in groups.items():
        pairs = "".join(
            f"<dt>{escape(key)}</dt><dd>{escape(_value(value))}</dd>"
            for key, value in values.items()
        )
        text += f"<h3>{name}</h3><dl>{pairs}</dl>"
    return text


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "-" if value is None or value == "" else str(value)


def _pill(row: VideoRow) -> str:
    mood = row.status.partition(" ")[0]
    text = f'<span class="pill {escape(mood)}">{_STATUS.get(row.status, row.status)}</span>'
    return f'{text} <span class="pill failed">partial</span>' if row.partial else text


def _bar(share: float) -> str:
    return f'<i style="width:{share:.2%}"></i>'


def _share(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _number(value: int) -> str:
    return f"{value:,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return format_seconds(value) if isinstance(value, float) else _number(value)

"""`counts.html`, from what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from html import escape

import numpy as np

from jde_ray.models.counting.events import ENTER
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.counting.buckets import By
from jde_ray.pipelines.counting.counts import INSIDE, Series
from jde_ray.pipelines.counting.result import Counted
from jde_ray.pipelines.report.counts import CameraView, Curve, counts_page
from jde_ray.pipelines.report.plots import format_seconds
from jde_ray.pipelines.report.tables import plain_table
from jde_ray.pipelines.storage.stores import open_store

PAGE_KEY = "counts.html"
MOST_CAMERAS, MOST_FAILED = 30, 100  # on the page
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMATS: dict[By, str] = {"minute": "%d %b %H:%M", "hour": "%d %b %H:%M", "day": "%d %b %Y"}


def write_page(
    counted: Counted, source: str, by: By, zone: tzinfo, images: Mapping[str, str]
) -> None:
    """Put the page into OUT2.

    Args:
        counted: What was counted.
        source: Address of the tracks.
        by: Length of the buckets.
        zone: Time zone of the texts.
        images: A frame by camera, as the `src` of an image.
    """
    text = build_page(counted, source, by, zone, images)
    open_store(counted.out).put(PAGE_KEY, text.encode("utf-8", "replace"))


def build_page(
    counted: Counted, source: str, by: By, zone: tzinfo, images: Mapping[str, str]
) -> str:
    """Text of the page; it shows at most `MOST_CAMERAS` cameras and says so."""
    cameras = list(dict.fromkeys(one.camera for one in counted.series))
    views = [_view(counted, name, by, zone, images) for name in cameras[:MOST_CAMERAS]]
    recorded_s = sum(one.length_s for one in counted.videos)
    crossings = sum(
        int(one.count.sum())
        for one in counted.series
        if one.place in _line_names(counted, one.camera)
    )
    tiles = [
        (f"{len(counted.videos):,}", "videos"),
        (f"{len({one.camera for one in counted.videos}):,}", "cameras"),
        (format_seconds(recorded_s), "recorded"),
        (f"{crossings:,}", "lines crossed"),
        (f"{counted.events.num_rows:,}", "events"),
    ]
    lead = f"Counts by {by}, times in {zone}. Where nothing was recorded, curves are broken."
    if len(cameras) > MOST_CAMERAS:
        lead += f" The first {MOST_CAMERAS} of {len(cameras)} cameras are shown; tables have all."
    for one in counted.overlaps:
        lead += f" Recordings of {one.camera} overlap by {one.seconds:.0f} s: people count in each."
    number = len(counted.failures)
    failed = [f"{one.file}: {one.reason}" for one in counted.failures[:MOST_FAILED]]
    if number > MOST_FAILED:
        failed.append(f"... and {number - MOST_FAILED} more")
    ending = ("failed", f"{number} videos failed") if number else ("done", "every video counted")
    return counts_page(source, ending, tiles, lead, views, failed)


def _line_names(counted: Counted, camera: str) -> set[str]:
    return {line.name for line in counted.places[camera].places.lines}


def _view(
    counted: Counted, camera: str, by: By, zone: tzinfo, images: Mapping[str, str]
) -> CameraView:
    own = [one for one in counted.series if one.camera == camera]
    # of a camera with and without clocks the clocked part is drawn; one bucket is no curve
    has_clock = any(one.has_clock for one in own)
    drawn = [one for one in own if one.has_clock == has_clock and len(one.begin) > 1]
    places = counted.places[camera]
    return CameraView(
        camera=camera,
        size=counted.sizes.get(camera),
        places=places.places,
        ways=[ways[:ENTER] for ways in places.directions[: len(places.places.lines)]],  # type: ignore[misc]
        heat=counted.heat.get(camera),
        image=images.get(camera),
        label=lambda number: _label(int(drawn[0].begin[number]), by, zone, has_clock),
        crossings=[
            Curve(f"{one.place} {one.direction}", np.where(one.is_gap, np.nan, one.count))
            for one in drawn
            if one.kind in ("crossing", "enter")
        ],
        people=[Curve(one.place, one.people) for one in drawn if one.kind == INSIDE],
        table=_table(own),
    )


def _label(begin_us: int, by: By, zone: tzinfo, has_clock: bool) -> str:
    if not has_clock:
        return format_seconds(begin_us / 1e6)
    return (_EPOCH + timedelta(microseconds=begin_us)).astimezone(zone).strftime(_FORMATS[by])


def _table(series: Sequence[Series]) -> str:
    """Totals by place and direction; the two lines of a direction with and without clock add up."""
    rows: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        rows.setdefault((one.place, one.direction), []).append(one)
    heads = ["number", "people, mean", "most at once", "mean s", "mean m"]
    cells = [_cells(own) for own in rows.values()]
    used = [column for column in range(len(heads)) if any(row[column] != "-" for row in cells)]
    lines = []
    for (place, direction), own_cells in zip(rows, cells, strict=True):
        numbers = "".join(f'<td class="n">{own_cells[column]}</td>' for column in used)
        lines.append(f"<tr><td>{escape(place)}</td><td>{escape(direction)}</td>{numbers}</tr>")
    return plain_table(["place", "direction"], [heads[column] for column in used], lines)


def _cells(own: Sequence[Series]) -> tuple[str, ...]:
    count = sum(int(one.count.sum()) for one in own)
    most = max(int(one.most_people.max(initial=-1)) for one in own)
    people = [_mean(one.people, one.recorded_s) for one in own]
    stay_s = [_mean(one.mean_duration_s, one.count) for one in own]
    metres = [_mean(one.mean_distance_m, one.count) for one in own]
    return (
        "-" if own[0].kind == INSIDE else f"{count:,}",
        _shown(people, ".2f"),
        f"{most:,}" if most >= 0 else "-",
        _shown(stay_s, ".1f"),
        _shown(metres, ".1f"),
    )


def _mean(values: FloatArray, weights: FloatArray | IntArray) -> float:
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else np.nan


def _shown(values: Sequence[float], form: str) -> str:
    known = [value for value in values if np.isfinite(value)]
    return format(known[0], form) if known else "-"

"""`counts.html`: the self-contained page of `jde count`, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.counting.places import Line, Places, Point
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.report.canvas import (
    Axis,
    colour,
    dash_of,
    draw_grid,
    draw_keys,
    fitted_axis,
    line_key,
    place_points,
    svg,
)

MOST_COLUMNS = 200  # of a curve; more buckets share a column
_HEAT_LEVELS = 8
_WIDTH = 640  # of the picture on the page


@dataclass(frozen=True)
class Curve:
    """Values over the buckets of a camera: `(k,)`, NaN where nothing was recorded."""

    name: str
    values: FloatArray


@dataclass(frozen=True)
class CameraView:
    """What the page shows of a camera.

    Attributes:
        camera: Its name.
        size: Width and height of its picture in pixels; None if unknown.
        places: Its places in pixels.
        ways: For each line, what `to_right` and `to_left` are called.
        heat: `(rows, columns)` sightings by cell of the picture; None if the size is unknown.
        image: A frame, as the `src` of an image; None for none.
        label: Text of the bucket with a number.
        crossings: Curves of events per bucket.
        people: Curves of mean people in zones.
        table: Its counts as HTML.
    """

    camera: str
    size: tuple[int, int] | None
    places: Places
    ways: Sequence[tuple[str, str]]
    heat: IntArray | None
    image: str | None
    label: Callable[[int], str]
    crossings: Sequence[Curve]
    people: Sequence[Curve]
    table: str


def counts_page(
    place: str,
    ending: tuple[str, str],
    tiles: Sequence[tuple[str, str]],
    lead: str,
    cameras: Sequence[CameraView],
    failed: Sequence[str],
) -> str:
    """Text of the page; equal inputs give equal text.

    Args:
        place: Tracks and places, as text.
        ending: Style and text of how it ended.
        tiles: Large figures and what they are.
        lead: A sentence below them.
        cameras: Cameras in order.
        failed: Videos that were not counted, and why.
    """
    folder = Path(__file__).parent
    shown = "".join(
        f'<div class="card tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in tiles
    )
    lines = "".join(f"<p>{escape(one)}</p>" for one in failed)
    return Template((folder / "counts.html").read_text(encoding="utf-8")).substitute(
        style=(folder / "style.css").read_text(encoding="utf-8"),
        title="People counted",
        place=escape(place),
        mood=ending[0],
        ending=escape(ending[1]),
        tiles=shown,
        lead=escape(lead),
        cameras="".join(map(_camera, cameras)),
        failed=f'<h2>Not counted</h2><section class="card">{lines}</section>' if failed else "",
    )


def _camera(view: CameraView) -> str:
    cards = []
    if view.size is not None:
        cards.append(("Places, and where people were", draw_places(view)))
    if view.crossings:
        cards.append(("Events", step_chart(view.crossings, view.label)))
    if view.people:
        first = len(view.places.lines)  # colours as in the picture
        chart = step_chart(view.people, view.label, is_mean=True, first=first)
        cards.append(("People in zones, mean", chart))
    charts = "".join(
        f'<section class="card"><h3>{title}</h3>{drawing}</section>' for title, drawing in cards
    )
    return (
        f"<h2>{escape(view.camera)}</h2>"
        f'<section class="card scroll">{view.table}</section>'
        f'<div class="charts" style="margin-top:14px">{charts}</div>'
    )


def draw_places(view: CameraView) -> str:
    """The picture with heat map, zones and lines; an arrow points to the right of a line."""
    assert view.size is not None  # noqa: S101
    scale = _WIDTH / view.size[0]
    height = round(view.size[1] * scale)
    parts = ['<rect width="100%" height="100%" fill="#20262e"/>']
    if view.image is not None:
        parts.append(f'<image href="{view.image}" width="{_WIDTH}" height="{height}"/>')
    if view.heat is not None:
        parts.append(_heat(view.heat, height))
    places = view.places.scaled(scale, scale)
    for number, zone in enumerate(places.zones, len(places.lines)):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zone.points)
        parts.append(
            f'<polygon points="{points}" fill="{colour(number)}" fill-opacity=".16" '
            f'stroke="{colour(number)}" stroke-width="2"/>{_label(zone.points[0], zone.name)}'
        )
    for number, line in enumerate(places.lines):
        parts.append(_line(line, view.ways[number][0], colour(number)))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="places">'
        f"{''.join(parts)}</svg>"
    )


def _line(line: Line, way: str, stroke: str) -> str:
    (ax, ay), (bx, by) = line.points
    length = float(np.hypot(bx - ax, by - ay))
    mx, my = (ax + bx) / 2, (ay + by) / 2
    rx, ry = -(by - ay) / length, (bx - ax) / length  # to the right, seen from the first end
    tip, left, right = (
        (mx + 22 * rx, my + 22 * ry),
        (mx + 13 * rx + 5 * ry, my + 13 * ry - 5 * rx),
        (mx + 13 * rx - 5 * ry, my + 13 * ry + 5 * rx),
    )
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (tip, left, right))
    return (
        f'<path d="M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}M{mx:.1f} {my:.1f}'
        f'L{left[0] / 2 + right[0] / 2:.1f} {left[1] / 2 + right[1] / 2:.1f}" stroke="{stroke}" '
        f'stroke-width="3" fill="none"/><circle cx="{ax:.1f}" cy="{ay:.1f}" r="4" '
        f'fill="{stroke}"/><polygon points="{head}" fill="{stroke}"/>'
        f"{_label(line.start, line.name)}{_label((tip[0] + 3, tip[1] + 5), way)}"
    )


def _label(at: Point, text: str) -> str:
    x, y = max(2.0, at[0] + 4), max(12.0, at[1] - 6)
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" style="fill:#fff;font-size:13px;paint-order:stroke;'
        f'stroke:#000a;stroke-width:3px">{escape(text)}</text>'
    )


def _heat(cells: IntArray, height: int) -> str:
    """Cells as one path per level, the root of their share of the fullest cell."""
    most = int(cells.max()) if cells.size else 0
    if not most:
        return ""
    level = np.ceil(np.sqrt(cells / most) * _HEAT_LEVELS).astype(np.int64)
    rows, columns = cells.shape
    # runs of one level within a row, as one rectangle each
    is_new = np.diff(level, axis=1, prepend=-1) != 0
    first = np.flatnonzero(is_new)
    length = np.diff(np.append(first, level.size))
    paths = [""] * (_HEAT_LEVELS + 1)
    for at, wide, own in zip(first, length, level.reshape(-1)[first], strict=True):
        paths[own] += f"M{at % columns} {at // columns}h{wide}v1h-{wide}z"
    parts = [
        f'<path d="{path}" fill-opacity="{0.75 * number / _HEAT_LEVELS:.2f}"/>'
        for number, path in enumerate(paths)
        if number and path
    ]
    return (
        f'<svg width="{_WIDTH}" height="{height}" viewBox="0 0 {columns} {rows}" '
        f'preserveAspectRatio="none" fill="#ff6a1a">{"".join(parts)}</svg>'
    )


def step_chart(
    curves: Sequence[Curve],
    label: Callable[[int], str],
    *,
    is_mean: bool = False,
    first: int = 0,
    width: int = 460,
) -> str:
    """Curves as steps over their buckets, broken where nothing was recorded.

    Args:
        curves: Curves over the same k buckets.
        label: Text of the bucket with a number.
        is_mean: Whether buckets that share a column are averaged; otherwise they are added up.
        first: Number of the first curve's colour.
        width: Width in pixels.
    """
    count, height = len(curves[0].values), 260
    every = -(-count // MOST_COLUMNS)
    drawn = [_shared(curve.values, every, is_mean) for curve in curves]
    top = max([1.0, *(float(one[np.isfinite(one)].max(initial=0)) for one in drawn)])
    columns = len(drawn[0])
    at = np.unique((columns * np.array([0.08, 0.35, 0.62, 0.89])).astype(np.int64)).tolist()
    text = {float(one): label(one * every) for one in at}
    x = Axis("", 0, columns, tuple(text), text=text)
    y = fitted_axis("people" if is_mean else "events", [0.0, top])
    y = Axis(y.title, 0.0, y.high, tuple(tick for tick in y.ticks if tick >= 0), text=y.text)
    parts, keys = [draw_grid(x, y, width, height)], []
    for number, (curve, values) in enumerate(zip(curves, drawn, strict=True), first):
        dash = f' stroke-dasharray="{dash_of(number)}"' if dash_of(number) else ""
        path = _steps(values, x, y, (width, height))
        parts.append(
            f'<path class="line" d="{path}" stroke="{colour(number)}"{dash}>'
            f"<title>{escape(curve.name)}</title></path>"
        )
        keys.append((curve.name, line_key(number)))
    note = f'<p class="soft">{every} buckets per step</p>' if every > 1 else ""
    return svg(parts, width, height) + draw_keys(keys) + note


def _shared(values: FloatArray, every: int, is_mean: bool) -> NDArray[np.float64]:
    """`values` with `every` buckets in one; NaN where none of them is known."""
    first = np.arange(0, len(values), every)
    known = np.isfinite(values)
    total = np.add.reduceat(np.where(known, values, 0.0), first)
    number = np.add.reduceat(known.astype(np.int64), first)
    divisor = np.maximum(number, 1) if is_mean else 1
    shared: NDArray[np.float64] = np.where(number > 0, total / divisor, np.nan)
    return shared


def _steps(values: FloatArray, x: Axis, y: Axis, size: tuple[int, int]) -> str:
    edges, _ = place_points(x, y, np.arange(len(values) + 1.0), np.zeros(len(values) + 1), *size)
    _, down = place_points(x, y, np.zeros(len(values)), np.nan_to_num(values), *size)
    path, is_open = "", False
    for number, value in enumerate(values.tolist()):
        if np.isfinite(value):
            begin = "V" if is_open else f"M{edges[number]:.1f} "
            path += f"{begin}{down[number]:.1f}H{edges[number + 1]:.1f}"
        is_open = bool(np.isfinite(value))
    return path

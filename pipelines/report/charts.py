"""Charts of scores: lines, bars, points and intervals over a grid, as SVG text without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.report.canvas import (
    BOTTOM,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    Axis,
    bar_key,
    colour,
    dash_of,
    draw_grid,
    draw_keys,
    draw_point,
    line_key,
    place_points,
    point_key,
    shortened,
    svg,
)

_SLANT = 50  # angle in degrees of names that are too long for their slot
_MAX_POINTS = 400  # per line; more are not visible


@dataclass(frozen=True)
class Line:
    """A curve: ascending `(n,)` x and `(n,)` y. A line without a name has no key."""

    name: str
    x: FloatArray
    y: FloatArray
    is_bold: bool = False


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, width: int = 460, height: int = 290) -> str:
    """Curves over a grid, with a key of their names."""
    parts = [draw_grid(x, y, width, height)]
    keys: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        known = np.isfinite(line.x) & np.isfinite(line.y)
        if not known.any():
            continue
        chosen = np.flatnonzero(known)
        if len(chosen) > _MAX_POINTS:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _MAX_POINTS).astype(np.int64)]
        across, down = place_points(x, y, line.x[chosen], line.y[chosen], width, height)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        style = f'stroke="{colour(number)}"'
        if dash := dash_of(number):
            style += f' stroke-dasharray="{dash}"'
        if line.is_bold:
            style = f'style="stroke-width:3.5" {style}'
        title = f"<title>{escape(line.name)}</title>"
        parts.append(f'<polyline class="line" points="{points}" {style}>{title}</polyline>')
        keys.append((line.name, line_key(number)))
    return svg(parts, width, height) + draw_keys(keys)


def bar_chart(
    names: Sequence[str],
    groups: Mapping[str, Sequence[float]],
    y: Axis,
    width: int = 460,
    height: int = 260,
) -> str:
    """Draw one bar per group for every name, side by side.

    Args:
        names: Names below the bars; they are slanted if they are too long for their slots.
        groups: Values by group, in the order of `names`, in units of `y`; NaN has no bar. Groups
            beyond `PALETTE` repeat its colours.
        y: Vertical axis; smaller values are drawn as its lower end.
        width: Width in pixels; slanted names take additional room at the left.
        height: Height in pixels, without the room for slanted names.
    """
    x = Axis("", 0, len(names), ())
    parts = [draw_grid(x, y, width, height)]
    slot = (width - LEFT - RIGHT) / len(names)
    wide = min(22.0, 0.8 * slot / len(groups))
    gap = min(2.0, wide / 6)
    foot = height - BOTTOM
    for index, name in enumerate(names):
        middle = LEFT + (index + 0.5) * slot
        for number, (group, values) in enumerate(groups.items()):
            if not np.isfinite(values[index]):
                continue
            tall = float(y.share(np.asarray(values[index]))) * (foot - TOP)
            at = middle + (number - len(groups) / 2) * wide
            parts.append(
                f'<rect x="{at:.1f}" y="{foot - tall:.1f}" width="{wide - gap:.1f}" '
                f'height="{tall:.1f}" rx="{gap:.1f}" fill="{colour(number)}">'
                f"<title>{escape(name)}: {escape(group)} {100 * values[index]:.1f}</title></rect>"
            )
    below, (left, more) = _names_below(names, slot, foot)
    keys = [(group, bar_key(number)) for number, group in enumerate(groups)]
    return svg(parts + below, width, height + more, left) + draw_keys(keys)


def _names_below(
    names: Sequence[str], slot: float, foot: float
) -> tuple[list[str], tuple[float, float]]:
    """Names below their slots, and the room that they need at the left and below the chart."""
    shown = [shortened(name) for name in names]
    longest = LETTER * max(map(len, shown))
    is_slanted = longest > slot - 4
    texts = []
    for index, (name, text) in enumerate(zip(names, shown, strict=True)):
        middle = LEFT + (index + 0.5) * slot
        place = f'x="{middle:.1f}" y="{foot + 15}" text-anchor="middle"'
        if is_slanted:
            place = (
                f'transform="translate({middle + 4:.1f} {foot + 12}) rotate({-_SLANT})" '
                'text-anchor="end"'
            )
        texts.append(f"<text {place}>{escape(text)}<title>{escape(name)}</title></text>")
    if not is_slanted:
        return texts, (0.0, 0.0)
    slant = np.deg2rad(_SLANT)
    over = max(
        LETTER * len(text) * np.cos(slant) - LEFT - (index + 0.5) * slot
        for index, text in enumerate(shown)
    )
    return texts, (max(0.0, over), max(0.0, longest * np.sin(slant) + 18 - BOTTOM))


@dataclass(frozen=True)
class Interval:
    """A named value with its interval; the ends are NaN if it has none."""

    name: str
    value: float
    low: float
    high: float


def interval_chart(
    groups: Mapping[str, Sequence[Interval]], x: Axis, first: int = 0, width: int = 1080
) -> str:
    """Draw values as points on their intervals, one per row, and a line at 0.

    Args:
        groups: Rows by heading; the n-th rows of all groups have the same colour.
        x: Horizontal axis.
        first: Number of the first row's colour.
        width: Width in pixels.
    """
    named = [shortened(one.name, 40) for rows in groups.values() for one in rows]
    left = max(60.0, LETTER * max(map(len, [*groups, *named])) + 12)
    across = left + x.share(np.array([*x.ticks, 0.0])) * (width - left - 20)
    height = sum(24 + 22 * len(rows) for rows in groups.values()) + 40
    parts = [
        f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{height - 34}"/>'
        f'<text x="{at:.1f}" y="{height - 20}" text-anchor="middle">'
        f"{x.text.get(tick, f'{tick:g}')}</text>"
        for tick, at in zip(x.ticks, across[:-1].tolist(), strict=True)
    ]
    zero = across[-1]
    parts.append(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="4" y2="{height - 34}"/>')
    parts.append(f'<text x="{left + (width - left - 20) / 2:.0f}" y="{height - 4}" '
                 f'text-anchor="middle">{escape(x.title)}</text>')  # fmt: skip
    down = 4.0
    for heading, rows in groups.items():
        parts.append(f'<text class="group" x="0" y="{down + 16:.0f}">{escape(heading)}</text>')
        down += 24
        for number, one in enumerate(rows, first):
            parts += _interval(one, number, x, (left, width - 20.0), down + 11)
            down += 22
    return f'<div class="scroll">{svg(parts, width, height)}</div>'


def _interval(
    one: Interval, number: int, x: Axis, ends: tuple[float, float], down: float
) -> list[str]:
    shown = escape(shortened(one.name, 40))
    parts = [f'<text x="{ends[0] - 12:.0f}" y="{down + 4:.0f}" text-anchor="end">{shown}</text>']
    places = ends[0] + x.share(np.array([one.value, one.low, one.high])) * (ends[1] - ends[0])
    value, low, high = places.tolist()
    if np.isfinite((one.low, one.high)).all():
        parts.append(
            f'<path class="interval" stroke="{colour(number)}" '
            f'd="M{low:.1f} {down}H{high:.1f}M{low:.1f} {down - 5}v10M{high:.1f} {down - 5}v10"/>'
        )
    if np.isfinite(one.value):
        parts.append(draw_point(value, down, number, f"{one.name}: {one.value:+.1f}"))
    return parts


def point_chart(
    points: Mapping[str, tuple[float, float]], x: Axis, y: Axis, curves: Sequence[Line] = ()
) -> str:
    """Draw named points over a grid and faint curves, whose labels are at the edge of the grid.

    Names are written beside their points if there is room; the key below lists all of them.
    """
    width, height = 460, 290
    parts = [draw_grid(x, y, width, height)]
    ends: list[tuple[str, float, float]] = []
    for curve in curves:
        inside = (x.low <= curve.x) & (curve.x <= x.high) & (y.low <= curve.y) & (curve.y <= y.high)
        if inside.sum() < 2:
            continue
        across, down = place_points(x, y, curve.x[inside], curve.y[inside], width, height)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        parts.append(f'<polyline class="faint" points="{path}"/>')
        ends.append((curve.name, float(across[-1]) - 2, float(down[-1]) + 3))
    known = {name: at for name, at in points.items() if np.isfinite(at).all()}
    at = np.array(list(known.values()), np.float64).reshape(-1, 2)
    placed = place_points(x, y, at[:, 0], at[:, 1], width, height)
    places = list(zip(placed[0].tolist(), placed[1].tolist(), strict=True))
    numbers = {name: number for number, name in enumerate(points)}
    for name, (centre_x, centre_y) in zip(known, places, strict=True):
        parts.append(draw_point(centre_x, centre_y, numbers[name], name))
    taken: list[tuple[float, ...]] = [(a - 6.0, b - 6.0, a + 6.0, b + 6.0) for a, b in places]
    names = _names_beside(list(known), places, width - RIGHT, height - BOTTOM, taken)
    for name, right, foot in ends:  # labels that would cover points or names are left out
        box = (right - LETTER * len(name), foot - 9, right, foot + 3)
        if not any(_meet(box, other) for other in taken):
            taken.append(box)
            parts.append(f'<text class="over" x="{right:.1f}" y="{foot:.1f}" '
                         f'text-anchor="end">{escape(name)}</text>')  # fmt: skip
    keys = [(name, point_key(numbers[name])) for name in known]
    return svg(parts + names, width, height) + draw_keys(keys)


def _names_beside(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    right: float,
    foot: float,
    taken: list[tuple[float, ...]],
) -> list[str]:
    """Names beside, above or below their points, wherever they have room.

    `taken` holds the boxes of everything drawn so far; the boxes of the names are added to it.
    """
    texts = []
    for name, (across, down) in zip(names, places, strict=True):
        wide = LETTER * len(name)
        for anchor, at, left, middle in (
            ("start", across + 9, across + 9, down),
            ("end", across - 9, across - 9 - wide, down),
            ("middle", across, across - wide / 2, down - 14),
            ("middle", across, across - wide / 2, down + 14),
        ):
            box = (left, middle - 6, left + wide, middle + 6)
            inside = box[0] > LEFT and box[1] > TOP and box[2] < right and box[3] < foot
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                texts.append(
                    f'<text class="over" x="{at:.1f}" y="{middle + 4:.1f}" '
                    f'text-anchor="{anchor}">{escape(name)}</text>'
                )
                break
    return texts


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

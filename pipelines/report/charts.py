"""Charts of scores: lines, bars and points over a grid, as SVG text without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from jde_ray.models.structures import FloatArray

# distinguishable with colour vision deficiency (after Okabe and Ito), legible on light and dark
PALETTE = ("#2f7fd6", "#e08a1e", "#1a9e77", "#cc5f9c", "#8a6fd1", "#c9a400", "#d4503e", "#5b8f9c")
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 10, 36
_LETTER = 6.8  # approximate width of a letter of a chart's text
_MAX_POINTS = 400  # per line; more are not visible


@dataclass(frozen=True)
class Line:
    """One curve: rising `(n,)` x and `(n,)` y. A line without a name has no key."""

    name: str
    x: FloatArray
    y: FloatArray
    is_bold: bool = False


@dataclass(frozen=True)
class Axis:
    """Axis from `low` to `high` with a grid line at each of `ticks`, labelled by `text`."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    text: Mapping[float, str] = field(default_factory=dict)

    def share(self, value: FloatArray) -> FloatArray:
        """Position of values between the ends, in [0, 1]."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = np.log10(value), np.log10(low), np.log10(high)
        inside: FloatArray = np.clip((np.asarray(value) - low) / (high - low), 0, 1)
        return inside


PERCENT = Axis("", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1), text={k / 5: f"{20 * k}" for k in range(6)})


def colour(number: int) -> str:
    """Colour of the line or bar with this number."""
    return PALETTE[number % len(PALETTE)]


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, width: int = 460, height: int = 290) -> str:
    """Curves over a grid, with a key of their names."""
    parts = [_grid(x, y, width, height)]
    keys: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        known = np.isfinite(line.x) & np.isfinite(line.y)
        if not known.any():
            continue
        chosen = np.flatnonzero(known)
        if len(chosen) > _MAX_POINTS:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _MAX_POINTS).astype(np.int64)]
        across, down = _place(x, y, line.x[chosen], line.y[chosen], width, height)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        style = f'stroke="{colour(number)}"' + (' stroke-width="3.5"' if line.is_bold else "")
        if line.is_bold:
            style = f'style="stroke-width:3.5" {style}'
        title = f"<title>{escape(line.name)}</title>"
        parts.append(f'<polyline class="line" points="{points}" {style}>{title}</polyline>')
        keys.append((line.name, colour(number)))
    return _svg(parts, width, height) + _keys(keys)


def bar_chart(
    names: Sequence[str], groups: Mapping[str, Sequence[float]], y: Axis, height: int = 260
) -> str:
    """For every name, one bar per group, side by side.

    Args:
        names: Labels below the bars.
        groups: Values by group, in the order of `names`, in units of `y`; NaN has no bar.
        y: Vertical axis; negative values are drawn as its lower end.
        height: Height of the chart in pixels.
    """
    width = max(460, _LEFT + _RIGHT + 74 * len(names))
    x = Axis("", 0, len(names), ())
    parts = [_grid(x, y, width, height)]
    slot = (width - _LEFT - _RIGHT) / len(names)
    wide = min(22.0, 0.8 * slot / len(groups))
    foot = height - _BOTTOM
    for index, name in enumerate(names):
        middle = _LEFT + (index + 0.5) * slot
        for number, (group, values) in enumerate(groups.items()):
            if not np.isfinite(values[index]):
                continue
            tall = float(y.share(np.asarray(values[index]))) * (foot - _TOP)
            at = middle + (number - len(groups) / 2) * wide
            parts.append(
                f'<rect x="{at:.1f}" y="{foot - tall:.1f}" width="{wide - 2:.1f}" '
                f'height="{tall:.1f}" rx="2" fill="{colour(number)}">'
                f"<title>{escape(name)}: {group} {100 * values[index]:.1f}</title></rect>"
            )
        shown = name if len(name) <= 11 else name[:5] + "…" + name[-5:]
        parts.append(
            f'<text x="{middle:.1f}" y="{foot + 15}" text-anchor="middle">{escape(shown)}'
            f"<title>{escape(name)}</title></text>"
        )
    return _svg(parts, width, height) + _keys([(g, colour(k)) for k, g in enumerate(groups)])


def point_chart(
    points: Mapping[str, tuple[float, float]], x: Axis, y: Axis, curves: Sequence[Line] = ()
) -> str:
    """Named points over a grid and faint curves, which are labelled where they leave the grid.

    Names are written beside their points if there is room; the key below lists all of them.
    """
    width, height = 460, 290
    parts = [_grid(x, y, width, height)]
    for curve in curves:
        across, down = _place(x, y, curve.x, curve.y, width, height)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        parts.append(f'<polyline class="faint" points="{path}"/>')
        parts.append(f'<text class="over" x="{across[-1] - 2:.1f}" y="{down[-1] + 3:.1f}" '
                     f'text-anchor="end">{escape(curve.name)}</text>')  # fmt: skip
    known = {name: at for name, at in points.items() if np.isfinite(at).all()}
    at = np.array(list(known.values()), np.float64).reshape(-1, 2)
    placed = _place(x, y, at[:, 0], at[:, 1], width, height)
    places = list(zip(placed[0].tolist(), placed[1].tolist(), strict=True))
    colours = {name: colour(number) for number, name in enumerate(points)}
    for name, (centre_x, centre_y) in zip(known, places, strict=True):
        parts.append(
            f'<circle class="point" cx="{centre_x:.1f}" cy="{centre_y:.1f}" r="5.5" '
            f'fill="{colours[name]}"><title>{escape(name)}</title></circle>'
        )
    parts += _names_beside(list(known), places, width - _RIGHT, height - _BOTTOM)
    keys = [(name, colours[name]) for name in known]
    return _svg(parts, width, height) + _keys(keys)


def _names_beside(
    names: Sequence[str], places: Sequence[tuple[float, float]], right: float, foot: float
) -> list[str]:
    """Names to the right or left of, above or below their points, where there is room."""
    taken = [(a - 6.0, b - 6.0, a + 6.0, b + 6.0) for a, b in places]
    texts = []
    for name, (across, down) in zip(names, places, strict=True):
        wide = _LETTER * len(name)
        for anchor, at, left, middle in (
            ("start", across + 9, across + 9, down),
            ("end", across - 9, across - 9 - wide, down),
            ("middle", across, across - wide / 2, down - 14),
            ("middle", across, across - wide / 2, down + 14),
        ):
            box = (left, middle - 6, left + wide, middle + 6)
            inside = box[0] > _LEFT and box[1] > _TOP and box[2] < right and box[3] < foot
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


def _place(
    x: Axis, y: Axis, at_x: FloatArray, at_y: FloatArray, width: int, height: int
) -> tuple[FloatArray, FloatArray]:
    across = _LEFT + x.share(at_x) * (width - _LEFT - _RIGHT)
    return across, height - _BOTTOM - y.share(at_y) * (height - _TOP - _BOTTOM)


def _grid(x: Axis, y: Axis, width: int, height: int) -> str:
    foot, end = height - _BOTTOM, width - _RIGHT
    parts = [f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{foot}" y2="{foot}"/>']
    for tick in y.ticks:
        _, down = _place(x, y, np.array([x.low]), np.array([tick]), width, height)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{down[0]:.1f}" y2="{down[0]:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{down[0] + 4:.1f}" text-anchor="end">'
            f"{y.text.get(tick, f'{tick:g}')}</text>"
        )
    for tick in x.ticks:
        across, _ = _place(x, y, np.array([tick]), np.array([y.low]), width, height)
        parts.append(
            f'<line class="grid" x1="{across[0]:.1f}" x2="{across[0]:.1f}" y1="{_TOP}" '
            f'y2="{foot}"/><text x="{across[0]:.1f}" y="{foot + 15}" text-anchor="middle">'
            f"{x.text.get(tick, f'{tick:g}')}</text>"
        )
    parts.append(f'<text x="{(_LEFT + end) / 2:.0f}" y="{height - 4}" text-anchor="middle">'
                 f"{escape(x.title)}</text>")  # fmt: skip
    parts.append(f'<text transform="translate(11 {(_TOP + foot) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y.title)}</text>')  # fmt: skip
    return "".join(parts)


def _svg(parts: Sequence[str], width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _keys(keys: Sequence[tuple[str, str]]) -> str:
    texts = (f'<span><i style="background:{c}"></i>{escape(name)}</span>' for name, c in keys)
    return f'<p class="keys">{"".join(texts)}</p>'

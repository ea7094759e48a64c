"""Parts of charts: axes with a grid, colours and shapes, keys, and the SVG element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from jde_ray.models.structures import FloatArray

# People with a colour vision deficiency can tell these apart too, on light and dark backgrounds. A
# search maximised the smallest distance under all these conditions (the test measures it).
PALETTE = ("#2f6fdb", "#e08a1e", "#980876", "#7bc5ab", "#965b55", "#e79ee7", "#a1110f", "#a7bd76")
# After eight, the colours repeat with another dash and another shape.
_DASHES = ("", "8 4", "2 4", "12 3 2 3")
_SHAPES = ("circle", "square", "diamond", "triangle")
NUM_STYLES = len(PALETTE) * len(_DASHES)  # lines and points that look different
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 10, 36
LETTER = 6.8  # approximate width of a letter in a chart


@dataclass(frozen=True)
class Axis:
    """Axis from `low` to `high`, with a grid line at each of `ticks`; `text` labels the ticks."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    text: Mapping[float, str] = field(default_factory=dict)

    def share(self, value: FloatArray) -> FloatArray:
        """Positions of values between the ends, in [0, 1]."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = np.log10(value), np.log10(low), np.log10(high)
        inside: FloatArray = np.clip((np.asarray(value) - low) / (high - low), 0, 1)
        return inside


PERCENT = Axis("", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1), text={k / 5: f"{20 * k}" for k in range(6)})


def colour(number: int) -> str:
    """Colour of the line or bar with this number."""
    return PALETTE[number % len(PALETTE)]


def dash_of(number: int) -> str:
    """SVG's dashes of the line with this number; empty for a solid line."""
    return _DASHES[number // len(PALETTE) % len(_DASHES)]


def fitted_axis(title: str, values: Sequence[float], scale: float = 1.0) -> Axis:
    """An axis from below the least to above the greatest value, with at most eight round steps.

    Args:
        title: Title of the axis.
        values: Values to show; NaN is ignored.
        scale: Units of the texts per unit of the values: 100 writes shares as percent.
    """
    known = [scale * value for value in values if np.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    steps = (digit * 10.0**power for power in range(-2, 9) for digit in (1, 2, 5))
    step = next(one for one in steps if high - low <= 6 * one)
    first, last = int(np.floor(low / step - 0.1)), int(np.ceil(high / step + 0.1))
    text = {number * step / scale: f"{number * step:g}" for number in range(first, last + 1)}
    ticks = tuple(text)
    return Axis(title, ticks[0], ticks[-1], ticks, text=text)


def place_points(
    x: Axis, y: Axis, at_x: FloatArray, at_y: FloatArray, width: int, height: int
) -> tuple[FloatArray, FloatArray]:
    """`(n,)` coordinates in the drawing, across and down, of `(n,)` values."""
    across = LEFT + x.share(at_x) * (width - LEFT - RIGHT)
    return across, height - BOTTOM - y.share(at_y) * (height - TOP - BOTTOM)


def draw_grid(x: Axis, y: Axis, width: int, height: int) -> str:
    """The grid lines of both axes, with the texts of their ticks and their titles."""
    foot, end = height - BOTTOM, width - RIGHT
    parts = [f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{foot}" y2="{foot}"/>']
    for tick in y.ticks:
        _, down = place_points(x, y, np.array([x.low]), np.array([tick]), width, height)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{down[0]:.1f}" y2="{down[0]:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{down[0] + 4:.1f}" text-anchor="end">'
            f"{y.text.get(tick, f'{tick:g}')}</text>"
        )
    for tick in x.ticks:
        across, _ = place_points(x, y, np.array([tick]), np.array([y.low]), width, height)
        parts.append(
            f'<line class="grid" x1="{across[0]:.1f}" x2="{across[0]:.1f}" y1="{TOP}" '
            f'y2="{foot}"/><text x="{across[0]:.1f}" y="{foot + 15}" text-anchor="middle">'
            f"{x.text.get(tick, f'{tick:g}')}</text>"
        )
    parts.append(f'<text x="{(LEFT + end) / 2:.0f}" y="{height - 4}" text-anchor="middle">'
                 f"{escape(x.title)}</text>")  # fmt: skip
    parts.append(f'<text transform="translate(11 {(TOP + foot) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y.title)}</text>')  # fmt: skip
    return "".join(parts)


def svg(parts: Sequence[str], width: float, height: float, left: float = 0) -> str:
    """The drawing; `left` is the room for parts with negative horizontal coordinates."""
    box = f"{0 - left:.0f} 0 {width + left:.0f} {height:.0f}"
    return f'<svg viewBox="{box}" role="img">{"".join(parts)}</svg>'


def line_key(number: int) -> str:
    """CSS of the key's mark for the line with this number."""
    at, stops = 0.0, []
    for index, length in enumerate(dash_of(number).split() or ["1"]):
        end = at + float(length)
        stops.append(f"{'transparent' if index % 2 else colour(number)} {at:g}px {end:g}px")
        at = end
    pattern = ",".join(stops)
    return f"width:26px;height:4px;background:repeating-linear-gradient(90deg,{pattern})"


def bar_key(number: int) -> str:
    """CSS of the key's mark for the bars with this number."""
    return f"background:{colour(number)}"


def point_key(number: int) -> str:
    """CSS of the key's mark for the point with this number."""
    shape = {
        "circle": "border-radius:50%",
        "square": "border-radius:0",
        "diamond": "border-radius:0;transform:rotate(45deg) scale(.8)",
        "triangle": "clip-path:polygon(50% 0,100% 100%,0 100%)",
    }[_SHAPES[number // len(PALETTE) % len(_SHAPES)]]
    return f"background:{colour(number)};{shape}"


def draw_keys(keys: Sequence[tuple[str, str]]) -> str:
    """A key: each name after its mark, from pairs of a name and the CSS of its mark."""
    texts = (f'<span><i style="{style}"></i>{escape(name)}</span>' for name, style in keys)
    return f'<p class="keys">{"".join(texts)}</p>'


def shortened(name: str, most: int = 24) -> str:
    """The name with at most `most` letters; a longer one loses its middle."""
    half = (most - 1) // 2
    return name if len(name) <= most else name[: most - 1 - half] + "…" + name[-half:]


def draw_point(across: float, down: float, number: int, title: str) -> str:
    """The mark of the point with this number, at these coordinates of the drawing."""
    shape = _SHAPES[number // len(PALETTE) % len(_SHAPES)]
    style = f'class="point" fill="{colour(number)}"'
    text = f"<title>{escape(title)}</title>"
    if shape == "circle":
        return f'<circle {style} cx="{across:.1f}" cy="{down:.1f}" r="5.5">{text}</circle>'
    corners = {
        "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
        "diamond": ((0, -7), (7, 0), (0, 7), (-7, 0)),
        "triangle": ((0, -7), (6.5, 5), (-6.5, 5)),
    }[shape]
    places = " ".join(f"{across + a:.1f},{down + b:.1f}" for a, b in corners)
    return f'<polygon {style} points="{places}">{text}</polygon>'

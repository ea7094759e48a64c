"""Points in panels that share their axis across, with a line from each point to its twin below.

Colour and shape of a point stand for two groups, its filling for a third. With time across, a line
that leans to the right shows how much slower something is in the lower panel.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np

from jde_ray.pipelines.report.canvas import (
    LEFT,
    Axis,
    colour,
    draw_grid,
    place_points,
    svg,
)

Filling = Literal["filled", "open", "crossed"]
_WIDTH, _HEIGHT, _GAP = 760, 300, 26  # of a panel, and the room for its title
_RADIUS = 7.0


@dataclass(frozen=True)
class PanelPoint:
    """A point of a panel.

    Attributes:
        x: Place across.
        y: Place upwards.
        colour_of: What its colour stands for.
        shape_of: What its shape stands for.
        filling: Its filling.
    """

    x: float
    y: float
    colour_of: str
    shape_of: str
    filling: Filling

    @property
    def name(self) -> str:
        """Name, which its twin in another panel has too."""
        return f"{self.shape_of} + {self.colour_of}"


@dataclass(frozen=True)
class Panel:
    """A panel: its title, its points and its axis upwards."""

    title: str
    points: Sequence[PanelPoint]
    y: Axis


def _corners(number: int, turn: float, inner: float = 1.0) -> tuple[tuple[float, float], ...]:
    """Corners of a regular polygon, or of a star if every second one is nearer to the centre."""
    angles = turn + np.arange(number) / number * 2 * np.pi
    radii = np.where(np.arange(number) % 2, inner, 1.0)
    return tuple(zip((radii * np.sin(angles)).tolist(), (-radii * np.cos(angles)).tolist(),
                     strict=True))  # fmt: skip


# Shapes by number: matplotlib's name, and corners in units of the radius; () is a circle
_SHAPES: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = (
    ("o", ()),
    ("s", _corners(4, np.pi / 4)),
    ("D", _corners(4, 0)),
    ("^", _corners(3, 0)),
    ("v", _corners(3, np.pi)),
    ("*", _corners(10, 0, 0.45)),
    ("p", _corners(5, 0)),
    ("h", _corners(6, 0)),
)
NUM_SHAPES = len(_SHAPES)


def groups_of(panels: Sequence[Panel]) -> tuple[list[str], list[str]]:
    """What colours and what shapes stand for, in the order of the points."""
    points = [point for panel in panels for point in panel.points]
    colours, shapes = [p.colour_of for p in points], [p.shape_of for p in points]
    return list(dict.fromkeys(colours)), list(dict.fromkeys(shapes))


def panel_chart(panels: Sequence[Panel], x: Axis, keys: Mapping[Filling, str]) -> str:
    """The panels one below the other, as SVG with keys of colours, shapes and fillings.

    Args:
        panels: The panels.
        x: Axis across, shared by all panels.
        keys: What the fillings stand for.
    """
    colours, shapes = groups_of(panels)
    tall = _HEIGHT + _GAP
    places: list[dict[str, tuple[float, float]]] = []
    grids, marks = [], []
    for row, panel in enumerate(panels):
        points, y = panel.points, panel.y
        top = row * tall + _GAP
        grids.append(
            f'<g transform="translate(0 {top})">{draw_grid(x, y, _WIDTH, _HEIGHT)}'
            f'<text class="group" x="{LEFT}" y="0">{escape(panel.title)}</text></g>'
        )
        at = np.array([(p.x, p.y) for p in points], np.float64).reshape(-1, 2)
        across, down = place_points(x, y, at[:, 0], at[:, 1], _WIDTH, _HEIGHT)
        placed = list(zip(across.tolist(), (down + top).tolist(), strict=True))
        places.append({p.name: place for p, place in zip(points, placed, strict=True)})
        for point, place in zip(points, placed, strict=True):
            style = (colours.index(point.colour_of), shapes.index(point.shape_of))
            told = f"{point.name}: {point.x:.3g}, {point.y:.1f}"
            marks.append(_mark(place, *style, point.filling, told))
    lines = [
        f'<line class="twin" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" '
        f'stroke="{colour(colours.index(point.colour_of))}"/>'
        for point, (a, b), (c, d) in _twins(panels, places)
    ]
    drawing = svg([*grids, *lines, *marks], _WIDTH, len(panels) * tall + 4)
    shown = [_key(name, number, 0, "filled") for number, name in enumerate(colours)]
    named = [_key(name, None, number, "open") for number, name in enumerate(shapes)]
    filled = [_key(text, None, 0, filling) for filling, text in keys.items()]
    lists = (f'<p class="keys">{"".join(part)}</p>' for part in (shown, named, filled))
    return drawing + "".join(lists)


def _twins(
    panels: Sequence[Panel], places: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[PanelPoint, Any, Any]]:
    """Each point with its place, and that of its twin in the next panel."""
    for panel, here, below in zip(panels, places, places[1:], strict=False):
        for point in panel.points:
            if point.name in below:
                yield point, here[point.name], below[point.name]


def _mark(
    place: tuple[float, float], number: int | None, shape: int, filling: Filling, told: str
) -> str:
    """A mark; without a number it has the colour of text."""
    across, down = place
    paint = "var(--soft)" if number is None else colour(number)
    inside = f'fill="{paint}"' if filling == "filled" else 'fill="none"'
    style = f'class="{"point" if filling == "filled" else "hollow"}" {inside}'
    if filling != "filled":
        style += f' stroke="{paint}"'
    corners = _SHAPES[shape % NUM_SHAPES][1]
    title = f"<title>{escape(told)}</title>" if told else ""
    if corners:
        points = " ".join(
            f"{across + a * _RADIUS:.1f},{down + b * _RADIUS:.1f}" for a, b in corners
        )
        drawn = f'<polygon {style} points="{points}">{title}</polygon>'
    else:
        drawn = (
            f'<circle {style} cx="{across:.1f}" cy="{down:.1f}" r="{_RADIUS - 1}">{title}</circle>'
        )
    if filling == "crossed":
        left, top, arm = across - _RADIUS / 2, down - _RADIUS / 2, _RADIUS
        path = f"M{left:.1f} {top:.1f}l{arm} {arm}m0 {-arm}l{-arm} {arm}"
        drawn += f'<path class="hollow" stroke="{paint}" d="{path}"/>'
    return drawn


def _key(name: str, number: int | None, shape: int, filling: Filling) -> str:
    mark = _mark((9, 9), number, shape, filling, "")
    return f'<span><svg class="mark" viewBox="0 0 18 18">{mark}</svg>{escape(name)}</span>'


def panel_picture(panels: Sequence[Panel], x: Axis, keys: Mapping[Filling, str]) -> bytes:
    """The same drawing as PNG on white; arguments are those of `panel_chart`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import ConnectionPatch

    colours, shapes = groups_of(panels)
    figure = Figure(figsize=(9, 3.7 * len(panels) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    places = []
    for axis, panel in zip(axes, panels, strict=True):
        points, y = panel.points, panel.y
        axis.set(title=panel.title, ylabel=y.title, xlim=(x.low, x.high), ylim=(y.low, y.high))
        axis.grid(alpha=0.3)
        places.append({point.name: (point.x, point.y) for point in points})
        for point in points:
            paint = colour(colours.index(point.colour_of))
            marker = _SHAPES[shapes.index(point.shape_of) % NUM_SHAPES][0]
            inside = paint if point.filling == "filled" else "none"
            axis.plot(point.x, point.y, marker, ms=9, mfc=inside, mec=paint, mew=1.6)
            if point.filling == "crossed":
                axis.plot(point.x, point.y, "x", ms=5, mec=paint, mew=1.3)
    axes[-1].set_xlabel(x.title)
    rows = {id(point): row for row, panel in enumerate(panels) for point in panel.points}
    for point, here, below in _twins(panels, places):
        row = rows[id(point)]
        paint = colour(colours.index(point.colour_of))
        figure.add_artist(ConnectionPatch(
            here, below, "data", "data", axesA=axes[row], axesB=axes[row + 1],
            color=paint, alpha=0.35, linewidth=1,
        ))  # fmt: skip
    marks = [
        Line2D([], [], ls="", marker="o", mfc=colour(number), mec=colour(number), label=name)
        for number, name in enumerate(colours)
    ]
    marks += [
        Line2D([], [], ls="", marker=_SHAPES[number % NUM_SHAPES][0], mfc="none", mec="grey",
               label=name)
        for number, name in enumerate(shapes)
    ]  # fmt: skip
    styles = {"filled": ("o", "grey"), "open": ("o", "none"), "crossed": ("x", "grey")}
    marks += [
        Line2D([], [], ls="", marker=styles[one][0], mfc=styles[one][1], mec="grey", label=text)
        for one, text in keys.items()
    ]
    figure.legend(handles=marks, loc="outside right upper", fontsize=8)
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=130)
    return memory.getvalue()

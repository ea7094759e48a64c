"""Places in the picture of a camera: lines, zones, and points of the ground.

Coordinates are pixels or shares of the picture, x to the right and y down; `Places.scaled` turns
one into the other. All functions of this package take places in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import shapely
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray

Point = tuple[float, float]

GROUND = "ground"  # the place of a walk


@dataclass(frozen=True)
class Line:
    """A line that people cross, from its first to its second end.

    Attributes:
        name: Its name, unique among the places of a camera.
        start: First end.
        end: Second end. A person who comes from the left of someone who looks from the first end to
            the second one crosses `to_right`.
        margin: A person is clearly on a side if their foot point is further from the line than this
            share of the height of their box.

    Raises:
        ValueError: If a number is out of range, or both ends are the same point.
    """

    name: str
    start: Point
    end: Point
    margin: float = 0.1

    def __post_init__(self) -> None:
        _check_finite(self.name, (self.start, self.end))
        if self.start == self.end:
            raise ValueError(
                f"{self.name}: both ends are {_shown(self.start)}, expected two points"
            )
        if not 0 <= self.margin <= 10:
            raise ValueError(f"{self.name}: margin: got {self.margin}, expected 0 to 10")

    @property
    def points(self) -> tuple[Point, ...]:
        """Both ends."""
        return self.start, self.end


@dataclass(frozen=True)
class Zone:
    """An area that people enter and leave.

    Attributes:
        name: Its name, unique among the places of a camera.
        points: Its corners in order, at least three.

    Raises:
        ValueError: If a number is not finite, or the corners do not bound one area.
    """

    name: str
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        _check_finite(self.name, self.points)
        if len(set(self.points)) < 3:
            got = len(set(self.points))
            raise ValueError(f"{self.name}: got {got} different points, expected at least 3")
        if not shapely.is_valid(self._polygon):
            reason = shapely.is_valid_reason(self._polygon)
            raise ValueError(f"{self.name}: its outline crosses or touches itself ({reason})")

    @cached_property
    def _polygon(self) -> shapely.Polygon:
        polygon = shapely.Polygon(self.points)
        shapely.prepare(polygon)
        return polygon

    def contains(self, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
        """`(n,)` whether points lie inside or on the outline."""
        low_x, low_y, high_x, high_y = self._polygon.bounds
        inside: NDArray[np.bool_] = (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
        near = np.flatnonzero(inside)
        inside[near] = shapely.intersects_xy(self._polygon, x[near], y[near])
        return inside


@dataclass(frozen=True)
class Ground:
    """Four points of the ground, in the picture and in metres, which give distance and speed.

    Attributes:
        image: Points in the picture.
        metres: The same points on the ground.

    Raises:
        ValueError: If there are not four of each, or three lie on a line.
    """

    image: tuple[Point, ...]
    metres: tuple[Point, ...]

    def __post_init__(self) -> None:
        for name, points in (("image", self.image), ("metres", self.metres)):
            if len(points) != 4:
                raise ValueError(f"{GROUND}: {name}: got {len(points)} points, expected 4")
            _check_finite(f"{GROUND}: {name}", points)
            if any(_are_on_a_line(three) for three in combinations(points, 3)):
                raise ValueError(f"{GROUND}: {name}: expected 4 points of which no 3 are on a line")

    @cached_property
    def _matrix(self) -> FloatArray:
        """`(9,)` homography from the picture to metres, row by row."""
        targets = np.array(self.metres, np.float64).reshape(-1)
        solved = np.linalg.solve(_equations(self.image, self.metres), targets)
        return np.append(solved, 1.0)

    def to_metres(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`(n,)` positions in metres of points in the picture; NaN above the horizon."""
        a, b, c, d, e, f, g, h, i = self._matrix.tolist()
        depth = g * x + h * y + i
        sign = g * self.image[0][0] + h * self.image[0][1] + i  # of what can be seen
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = np.where(depth * sign > 0, depth, np.nan)
            return (a * x + b * y + c) / seen, (d * x + e * y + f) / seen


@dataclass(frozen=True)
class Places:
    """All places of a camera.

    Attributes:
        lines: Lines.
        zones: Zones.
        ground: Four points of the ground; None if it is not known.
        size: Width and height of the picture. A foot point outside it, as of someone whose feet the
            lower edge cuts off, counts as on its edge, so that places may end there. None: foot
            points count where they are.

    Raises:
        ValueError: If two places have one name.
    """

    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    ground: Ground | None = None
    size: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name}: two places have this name")

    @property
    def names(self) -> list[str]:
        """Names of lines, then of zones; `Event.place` counts in this order."""
        return [line.name for line in self.lines] + [zone.name for zone in self.zones]

    def scaled(self, across: float, down: float) -> Places:
        """The same places with x and y multiplied: shares of a picture in pixels, or back."""

        def moved(point: Point) -> Point:
            return point[0] * across, point[1] * down

        lines = (replace(one, start=moved(one.start), end=moved(one.end)) for one in self.lines)
        zones = (Zone(one.name, tuple(map(moved, one.points))) for one in self.zones)
        ground = self.ground
        if ground is not None:
            ground = Ground(tuple(map(moved, ground.image)), ground.metres)
        size = None if self.size is None else moved(self.size)
        return Places(tuple(lines), tuple(zones), ground, size)

    def check_inside(self, width: float, height: float) -> None:
        """Refuse places with a point outside the picture.

        Raises:
            ValueError: If there is one, naming the place and the point.
        """
        shown = [(line.name, line.points) for line in self.lines]
        shown += [(zone.name, zone.points) for zone in self.zones]
        if self.ground is not None:
            shown.append((GROUND, self.ground.image))
        for name, points in shown:
            for x, y in points:
                if not (0 <= x <= width and 0 <= y <= height):
                    raise ValueError(
                        f"{name}: {_shown((x, y))} is outside the picture, "
                        f"expected 0 to {width:g} and 0 to {height:g}"
                    )


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What counts as a visit or a crossing, and when a person is gone.

    Attributes:
        min_visit_s: Shorter visits of a zone and stays on a side of a line are left out, and
            shorter absences do not end a visit.
        max_gap_s: A person who is not seen for longer counts as another one afterwards.

    Raises:
        ValueError: If a value is out of range.
    """

    min_visit_s: float = 0.5
    max_gap_s: float = 10.0

    def __post_init__(self) -> None:
        for name, value in (("min-visit", self.min_visit_s), ("max-gap", self.max_gap_s)):
            if not 0 <= value <= 86_400:
                raise ValueError(f"{name}: got {value}, expected 0 to 86400 seconds")


def _equations(image: tuple[Point, ...], metres: tuple[Point, ...]) -> FloatArray:
    """`(8, 8)` equations of the first eight numbers of the homography."""
    rows = []
    for (x, y), (u, v) in zip(image, metres, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return np.array(rows, np.float64)


def _are_on_a_line(points: tuple[Point, ...]) -> bool:
    (ax, ay), (bx, by), (cx, cy) = points
    longest = max(abs(bx - ax), abs(by - ay), abs(cx - ax), abs(cy - ay))
    return abs((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)) <= 1e-9 * longest**2


def _check_finite(name: str, points: Iterable[Point]) -> None:
    for point in points:
        if not np.isfinite(point).all():
            raise ValueError(f"{name}: got {_shown(point)}, expected finite numbers")


def _shown(point: Point) -> str:
    return f"({point[0]:g}, {point[1]:g})"

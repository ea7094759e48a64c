"""A small rasteriser of lit, rounded solids: tapered limbs, ellipsoids, lofted trunks.

The projection is orthographic for a given heading; a depth buffer decides which shape is visible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray


@dataclass(frozen=True)
class Surface:
    """The pixels of a solid, passed to a colour function; all arrays have one shape.

    Attributes:
        along: Position on the axis of a limb, or height of a trunk's point over the ground, in
            metres.
        side: Component of the surface normal (for a trunk, of the point) to the person's left.
        front: Component of the normal to the front.
        up: Component of the normal upwards.
    """

    along: FloatArray
    side: FloatArray
    front: FloatArray
    up: FloatArray


Paint = Callable[[Surface], FloatArray]


def plain(colour: tuple[float, float, float]) -> Paint:
    """A paint of one colour."""
    value = np.array(colour, np.float32)
    return lambda surface: np.broadcast_to(value, (*surface.along.shape, 3))


class SolidCanvas:
    """Draws solids, seen at one heading, into an image with alpha.

    Args:
        width_m: Canvas width in metres; the person stands in its centre.
        height_m: Canvas height in metres; the ground is `margin_m` above its lower edge.
        margin_m: Space below the ground.
        px_per_m: Resolution.
        heading: Angle of the person's front: 0 is away from the camera, pi / 2 to the right.
        light: Unit vector to the light: right, up, towards the camera.
        folds: `(n, n)` noise around 1 that modulates cloth.
    """

    def __init__(
        self,
        width_m: float,
        height_m: float,
        margin_m: float,
        px_per_m: float,
        heading: float,
        light: tuple[float, float, float],
        folds: FloatArray,
    ) -> None:
        self.shape = (round(height_m * px_per_m), round(width_m * px_per_m))
        self._origin = (self.shape[1] / 2, self.shape[0] - margin_m * px_per_m)
        self._px_per_m = px_per_m
        self._front = (math.sin(heading), -math.cos(heading))  # right, towards the camera
        self._side = (-math.cos(heading), -math.sin(heading))
        self._light = light
        self._folds = folds
        self.colour = np.zeros((*self.shape, 3), np.float32)
        self.alpha = np.zeros(self.shape, np.float32)
        self._depth = np.full(self.shape, -1e9, np.float32)

    def view(self, point: FloatArray) -> tuple[float, float, float]:
        """Map body-frame metres to pixel column, pixel row and metres towards the camera."""
        right = point[0] * self._side[0] + point[1] * self._front[0]
        nearer = point[0] * self._side[1] + point[1] * self._front[1]
        x, y = self._origin
        return x + right * self._px_per_m, y - point[2] * self._px_per_m, float(nearer)

    def limb(
        self, a: FloatArray, b: FloatArray, radius_a: float, radius_b: float, paint: Paint
    ) -> None:
        """Draw a tapered capsule from `a` to `b`, in body-frame metres."""
        (ax, ay, az), (bx, by, bz) = self.view(a), self.view(b)
        ra, rb = radius_a * self._px_per_m, radius_b * self._px_per_m
        reach = max(ra, rb) + 2
        window = self._window(
            min(ax, bx) - reach, min(ay, by) - reach, max(ax, bx) + reach, max(ay, by) + reach
        )
        if window is None:
            return
        rows, columns, ys, xs = window
        dx, dy = bx - ax, by - ay
        t = np.clip(((xs - ax) * dx + (ys - ay) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        radius = ra + (rb - ra) * t
        ox, oy = xs - (ax + t * dx), ys - (ay + t * dy)
        distance = np.sqrt(ox * ox + oy * oy)
        nx, ny = ox / radius, -oy / radius
        nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0, 1))
        depth = az + t * (bz - az) + nz * radius / self._px_per_m
        along = t * float(np.linalg.norm(b - a))
        self._paint((rows, columns), radius - distance, depth, (nx, ny, nz), along, paint)

    def ellipsoid(
        self, centre: FloatArray, radii: tuple[float, float, float], paint: Paint
    ) -> None:
        """Draw an ellipsoid with radii to the side, front and up in metres."""
        cx, cy, cz = self.view(centre)
        half = self._px_per_m * math.hypot(radii[0] * self._side[0], radii[1] * self._front[0])
        deep = math.hypot(radii[0] * self._side[1], radii[1] * self._front[1])
        tall = radii[2] * self._px_per_m
        window = self._window(cx - half - 2, cy - tall - 2, cx + half + 2, cy + tall + 2)
        if window is None:
            return
        rows, columns, ys, xs = window
        nx, ny = (xs - cx) / half, -(ys - cy) / tall
        nx, ny = np.broadcast_arrays(nx, ny)
        squared = nx * nx + ny * ny
        nz = np.sqrt(np.clip(1 - squared, 0, 1))
        inside = (1 - np.sqrt(squared)) * min(half, tall)
        self._paint((rows, columns), inside, cz + nz * deep, (nx, ny, nz), ny * radii[2], paint)

    def trunk(self, rings: FloatArray, paint: Paint) -> None:
        """Draw a loft through ellipses.

        Args:
            rings: `(n, 5)` rows of height over the ground, side and front of the centre, half width
                and half depth, in metres, in order of rising height.
            paint: Colour function of the surface.
        """
        px, heights = self._px_per_m, rings[:, 0]
        top, bottom = self._origin[1] - heights[-1] * px, self._origin[1] - heights[0] * px
        reach = float(np.abs(rings[:, 1:3]).max() + rings[:, 3:].max()) * px + 2
        x0 = self._origin[0]
        window = self._window(x0 - reach, top - 2, x0 + reach, bottom + 2)
        if window is None:
            return
        rows, columns, ys, xs = window
        up = (self._origin[1] - ys) / px
        side, front, wide, deep = (np.interp(up, heights, rings[:, i]) for i in range(1, 5))
        centre = x0 + (side * self._side[0] + front * self._front[0]) * px
        half = np.hypot(wide * self._side[0], deep * self._front[0]) * px
        far = np.hypot(wide * self._side[1], deep * self._front[1])
        nx = (xs - centre) / half
        nz = np.sqrt(np.clip(1 - nx * nx, 0, 1))
        ends = np.minimum(ys - top, bottom - ys)
        inside = np.minimum((1 - np.abs(nx)) * half, ends)
        slope = -np.gradient(half[:, 0]) if len(half) > 1 else np.zeros(1)
        ny = np.broadcast_to(np.clip(-slope[:, None] * 0.5, -0.4, 0.8), nx.shape)
        depth = side * self._side[1] + front * self._front[1] + nz * far
        along = np.broadcast_to(up, nx.shape)
        self._paint((rows, columns), inside, depth, (nx, ny, nz), along, paint)

    def _window(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[slice, slice, FloatArray, FloatArray] | None:
        height, width = self.shape
        x0, x1 = max(0, math.floor(left)), min(width, math.ceil(right) + 1)
        y0, y1 = max(0, math.floor(top)), min(height, math.ceil(bottom) + 1)
        if x0 >= x1 or y0 >= y1:
            return None
        ys = np.arange(y0, y1, dtype=np.float32)[:, None]
        return slice(y0, y1), slice(x0, x1), ys, np.arange(x0, x1, dtype=np.float32)[None, :]

    def _paint(
        self,
        window: tuple[slice, slice],
        inside_px: FloatArray,
        depth: FloatArray,
        normal: tuple[FloatArray, FloatArray, FloatArray],
        along: FloatArray,
        paint: Paint,
    ) -> None:
        coverage = np.clip(inside_px + 0.5, 0, 1)
        wins = (coverage > 0) & ((depth > self._depth[window]) | (coverage > self.alpha[window]))
        # soft edges must not cut holes of background into the shape behind
        wins &= (coverage >= 0.5) | (coverage > self.alpha[window])
        if not wins.any():
            return
        nx, ny, nz = (part[wins] for part in normal)
        surface = Surface(
            along=along[wins],
            side=nx * self._side[0] + nz * self._side[1],
            front=nx * self._front[0] + nz * self._front[1],
            up=ny,
        )
        lx, ly, lz = self._light
        lit = 0.58 + 0.46 * np.clip(nx * lx + ny * ly + nz * lz, -0.6, 1) + 0.08 * ny
        lit -= 0.22 * (1 - nz) ** 2
        size = len(self._folds)
        fold = self._folds[
            (surface.along * 90).astype(np.int32) % size,
            (np.arctan2(surface.side, surface.front + 1e-6) * 9).astype(np.int32) % size,
        ]
        self.colour[window][wins] = paint(surface) * (lit * fold)[:, None]
        self.alpha[window] = np.maximum(self.alpha[window], coverage)
        self._depth[window][wins] = np.where(coverage[wins] >= 0.5, depth[wins], -1e8)

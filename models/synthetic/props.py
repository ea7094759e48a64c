"""Objects in the street other than people: lamps, bins, signs, trees, cars and the like."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.synthetic.person import Sprite, make_sprite
from jde_ray.models.synthetic.scene import PropKind

_SIZES_M: dict[PropKind, tuple[float, float]] = {
    "lamp": (0.9, 5.2),
    "bin": (0.7, 1.15),
    "sign": (0.9, 2.7),
    "tree": (3.6, 5.6),
    "car": (4.4, 1.6),
    "bollard": (0.3, 1.0),
    "pillar": (1.4, 2.9),
    "bench": (1.9, 0.95),
    "hydrant": (0.5, 0.85),
}


class _Drawing:
    """A drawing in metres with its origin at the centre of the foot, at twice the resolution."""

    def __init__(self, width_m: float, height_m: float, px_per_m: float) -> None:
        self._scale = 2 * px_per_m
        self._size = (round(height_m * px_per_m), round(width_m * px_per_m))
        shape = (2 * self._size[0], 2 * self._size[1])
        self._rgb = np.zeros((*shape, 3), np.uint8)
        self._alpha = np.zeros(shape, np.uint8)

    def _points(self, points: list[tuple[float, float]]) -> NDArray[np.int32]:
        height, width = self._alpha.shape
        pixels = np.array(
            [(width / 2 + x * self._scale, height - y * self._scale) for x, y in points]
        )
        return np.round(pixels * 16).astype(np.int32)

    def polygon(self, points: list[tuple[float, float]], colour: NDArray[np.float64]) -> None:
        corners = [self._points(points)]
        cv2.fillPoly(self._rgb, corners, (colour * 255).tolist(), cv2.LINE_AA, 4)
        cv2.fillPoly(self._alpha, corners, [255.0], cv2.LINE_AA, 4)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: NDArray[np.float64]) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, radius: float, colour: NDArray[np.float64]) -> None:
        (cx, cy), r = self._points([(x, y)])[0], round(radius * self._scale * 16)
        cv2.circle(self._rgb, (int(cx), int(cy)), r, (colour * 255).tolist(), -1, cv2.LINE_AA, 4)
        cv2.circle(self._alpha, (int(cx), int(cy)), r, 255, -1, cv2.LINE_AA, 4)

    def sprite(self, px_per_m: float, rng: np.random.Generator) -> Sprite:
        height, width = self._size
        image = np.dstack([self._rgb, self._alpha]).astype(np.float32)
        across = np.linspace(-1, 1, image.shape[1], dtype=np.float32)
        noise = rng.normal(1, 0.05, image.shape[:2]).astype(np.float32)
        shade = (1.02 - 0.14 * across**2)[None, :] * cv2.GaussianBlur(noise, (0, 0), 1.5)
        image[..., :3] *= (shade * image[..., 3] / 255)[..., None]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        rgba = np.clip(small, 0, 255).astype(np.uint8)
        rgba[..., :3] = np.minimum(rgba[..., :3], rgba[..., 3:])
        return make_sprite(rgba, px_per_m, (width / 2, float(height)))


def draw_prop(kind: PropKind, seed: int, px_per_m: float) -> Sprite:
    """Sprite of a prop; equal seeds give equal sprites."""
    rng = np.random.default_rng(seed)
    drawing = _Drawing(*_SIZES_M[kind], px_per_m)
    colour = np.clip(rng.uniform(0.15, 0.7) + rng.normal(0, 0.12, 3), 0.06, 0.9)
    _DRAW[kind](drawing, colour, rng)
    return drawing.sprite(px_per_m, rng)


def _lamp(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    metal = colour * 0.4 + 0.08
    d.box(-0.10, 0, 0.10, 0.5, metal)
    d.polygon([(-0.065, 0.5), (0.065, 0.5), (0.04, 4.7), (-0.04, 4.7)], metal)
    d.box(-0.22, 4.65, 0.22, 4.72, metal)
    d.polygon([(-0.14, 4.72), (0.14, 4.72), (0.2, 5.05), (-0.2, 5.05)], np.full(3, 0.85))
    if rng.random() < 0.4:
        d.box(-0.3, 2.3, 0.3, 2.9, np.clip(colour + 0.2, 0, 0.95))


def _bin(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    d.polygon([(-0.24, 0), (0.24, 0), (0.29, 0.95), (-0.29, 0.95)], colour)
    d.box(-0.31, 0.93, 0.31, 1.05, colour * 0.6)
    d.box(-0.16, 0.72, 0.16, 0.82, np.full(3, 0.05))


def _sign(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    d.box(-0.03, 0, 0.03, 2.6, np.full(3, 0.5))
    if rng.random() < 0.5:
        d.disc(0, 2.25, 0.36, np.full(3, 0.9))
        d.disc(0, 2.25, 0.34, np.array([0.75, 0.1, 0.12]))
        d.disc(0, 2.25, 0.24, np.full(3, 0.92))
    else:
        d.box(-0.36, 1.8, 0.36, 2.5, np.array([0.12, 0.25, 0.6]))
        d.box(-0.2, 2.0, 0.1, 2.3, np.full(3, 0.92))


def _tree(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    bark = np.array([0.25, 0.19, 0.14]) * rng.uniform(0.8, 1.3)
    d.polygon([(-0.2, 0), (0.2, 0), (0.1, 2.6), (-0.12, 2.6)], bark)
    leaf = np.array([rng.uniform(0.2, 0.4), rng.uniform(0.34, 0.5), rng.uniform(0.1, 0.2)])
    for level in np.linspace(0.5, 1.25, 150):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) ** 0.5
        x, y = 1.35 * reach * np.cos(angle), 3.9 + 1.25 * reach * np.sin(angle)
        shade = level * (0.8 + 0.12 * (y - 3.9))
        d.disc(float(x), float(y), float(rng.uniform(0.12, 0.36)), np.clip(leaf * shade, 0, 1))


def _car(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    roof = 1.38 + rng.uniform(0, 0.12)
    d.polygon([(-2.1, 0.3), (2.08, 0.3), (2.12, 0.75), (1.25, 0.92), (0.62, roof),
               (-0.95, roof), (-1.7, 0.95), (-2.12, 0.85)], colour)  # fmt: skip
    glass = np.array([0.16, 0.19, 0.22])
    d.polygon([(1.05, 0.94), (0.55, roof - 0.08), (0.0, roof - 0.08), (0.0, 0.92)], glass)
    d.polygon([(-0.08, 0.92), (-0.08, roof - 0.08), (-0.9, roof - 0.08), (-1.5, 0.94)], glass)
    d.box(-2.05, 0.3, 2.05, 0.42, colour * 0.55)
    d.box(-0.05, 0.45, -0.03, 0.9, colour * 0.6)
    d.box(1.95, 0.62, 2.1, 0.72, np.array([0.9, 0.9, 0.8]))
    d.box(-2.12, 0.7, -2.0, 0.84, np.array([0.6, 0.1, 0.1]))
    for x in (-1.3, 1.32):
        d.disc(x, 0.33, 0.33, np.full(3, 0.06))
        d.disc(x, 0.33, 0.2, np.full(3, 0.55))
        d.disc(x, 0.33, 0.07, np.full(3, 0.25))


def _bollard(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    d.box(-0.075, 0, 0.075, 0.92, colour * 0.5)
    d.disc(0, 0.92, 0.075, colour * 0.5)
    d.box(-0.075, 0.7, 0.075, 0.78, np.full(3, 0.85))


def _pillar(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    d.box(-0.6, 0, 0.6, 2.7, np.array([0.3, 0.33, 0.3]))
    d.polygon([(-0.66, 2.6), (0.66, 2.6), (0.45, 2.88), (-0.45, 2.88)], np.full(3, 0.25))
    for row in range(2):
        for column in range(2):
            x, y = -0.54 + 0.56 * column, 0.4 + 1.08 * row
            poster = np.clip(rng.uniform(0.2, 0.9, 3), 0, 1)
            d.box(x, y, x + 0.5, y + 0.98, poster)
            for _ in range(5):
                px, py = x + rng.uniform(0, 0.3), y + rng.uniform(0.05, 0.8)
                stripe = rng.uniform(0.05, 0.95, 3)
                d.box(px, py, px + rng.uniform(0.05, 0.2), py + rng.uniform(0.03, 0.15), stripe)


def _bench(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    wood = np.array([0.45, 0.3, 0.18]) * rng.uniform(0.7, 1.2)
    for x in (-0.8, 0.72):
        d.box(x, 0, x + 0.08, 0.9, np.full(3, 0.15))
    for y in (0.4, 0.55, 0.68, 0.8):
        d.box(-0.92, y, 0.92, y + 0.085, wood)


def _hydrant(d: _Drawing, colour: NDArray[np.float64], rng: np.random.Generator) -> None:
    red = np.array([0.7, 0.12, 0.1]) if rng.random() < 0.6 else np.array([0.8, 0.65, 0.1])
    d.box(-0.11, 0, 0.11, 0.62, red)
    d.box(-0.16, 0.6, 0.16, 0.66, red * 0.8)
    d.disc(0, 0.66, 0.1, red)
    d.disc(-0.15, 0.45, 0.06, red * 0.7)
    d.disc(0.15, 0.45, 0.06, red * 0.7)


_DRAW = {
    "lamp": _lamp,
    "bin": _bin,
    "sign": _sign,
    "tree": _tree,
    "car": _car,
    "bollard": _bollard,
    "pillar": _pillar,
    "bench": _bench,
    "hydrant": _hydrant,
}

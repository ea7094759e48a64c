"""The background of a scene: sky, facades or greenery, pavement and road, on one canvas."""

from __future__ import annotations

import cv2
import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.synthetic.scene import Camera, Layout, StreetScene


def margin_px(scene: StreetScene, camera: Camera) -> tuple[int, int]:
    """How far the canvas extends beyond the frame: horizontally and vertically, on each side."""
    shake = int(4 * camera.shake_px) + 4
    return int(camera.pan_px) + shake, shake


def draw_backdrop(scene: StreetScene, layout: Layout) -> FloatArray:
    """The still background.

    Returns:
        `(H + 2 my, W + 2 mx, 3)` float32 RGB in [0, 1], `mx, my` from `margin_px`.
    """
    rng = np.random.default_rng([scene.seed, 2])
    mx, my = margin_px(scene, layout.camera)
    shape = (scene.height + 2 * my, scene.width + 2 * mx)
    canvas = np.zeros((*shape, 3), np.float32)
    ys = np.arange(shape[0], dtype=np.float32) - my
    xs = np.arange(shape[1], dtype=np.float32) - mx
    _sky(canvas, rng)
    wall = round(layout.camera.project(0, layout.far_m)[1]) + my
    if rng.random() < 0.75:
        _facades(canvas, wall, layout.camera.scale(layout.far_m), rng)
    else:
        _greenery(canvas, wall, layout.camera.scale(layout.far_m), rng)
    _ground(canvas[wall:], xs, ys[wall:], layout, rng)
    grain = rng.normal(0, 1, (*shape, 1)).astype(np.float32)
    coarse = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 14)
    stains = np.asarray(coarse, np.float32)[..., None] / max(float(coarse.std()), 1e-6)
    bounded: FloatArray = np.clip(canvas * (1 + 0.02 * grain + 0.05 * stains), 0, 1)
    return bounded


def _sky(canvas: FloatArray, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    blue = np.array([0.55, 0.68, 0.86]) * rng.uniform(0.75, 1.1)
    grey = np.full(3, rng.uniform(0.6, 0.9))
    noise = rng.normal(0, 1, (max(height // 24, 2), max(width // 60, 2))).astype(np.float32)
    clouds = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.clip(0.5 + 0.4 * clouds + rng.uniform(-0.4, 0.4), 0, 1)[..., None]
    canvas[:] = blue * (1 - share) + grey * share


def _facades(canvas: FloatArray, foot: int, px: float, rng: np.random.Generator) -> None:
    width = canvas.shape[1]
    x = -int(rng.uniform(0, 6) * px)
    while x < width:
        span = int(rng.uniform(6, 14) * px)
        wall = np.clip(rng.uniform(0.35, 0.85) + rng.normal(0, 0.04, 3), 0.15, 0.95)
        wall[0] = min(wall[0] + rng.uniform(-0.02, 0.1), 0.95)
        floors = int(rng.integers(2, 6))
        _building(canvas, (x, foot, span), floors, px, wall, rng)
        x += span


def _building(
    canvas: FloatArray,
    place: tuple[int, int, int],
    floors: int,
    px: float,
    wall: FloatArray,
    rng: np.random.Generator,
) -> None:
    x, foot, span = place
    storey = 3.2 * px
    top = int(foot - storey * floors - 0.9 * px)
    _rect(canvas, x, top, x + span, foot, wall)
    if rng.random() < 0.5:  # courses of brick
        for row in range(max(top, 0), foot, max(2, round(0.22 * px))):
            _rect(canvas, x, row, x + span, row + 1, wall * 0.9)
    _rect(canvas, x, top, x + span, top + int(0.3 * px), wall * 0.7)
    _rect(canvas, x, top, x + 2, foot, wall * 0.6)
    columns = max(1, round(span / (2.6 * px)))
    pitch, tall = span / columns, rng.uniform(1.4, 2.1)
    glass = np.array([0.2, 0.24, 0.3]) * rng.uniform(0.7, 1.4)
    for floor in range(1, floors):
        sill = foot - storey * floor - 0.8 * px
        for column in range(columns):
            left = x + pitch * (column + 0.5) - 0.6 * px
            pane = np.clip(glass * rng.uniform(0.6, 1.6), 0, 0.95)
            frame = np.clip(wall * 1.25, 0, 0.97)
            _rect(canvas, left - 2, sill - tall * px - 2, left + 1.2 * px + 2, sill + 2, frame)
            _rect(canvas, left, sill - tall * px, left + 1.2 * px, sill, pane)
            _rect(canvas, left + 0.57 * px, sill - tall * px, left + 0.63 * px, sill, frame)
    _shops(canvas, (x, foot, span), px, wall, rng)


def _shops(
    canvas: FloatArray,
    place: tuple[int, int, int],
    px: float,
    wall: FloatArray,
    rng: np.random.Generator,
) -> None:
    x, foot, span = place
    count = max(1, round(span / (4.5 * px)))
    for shop in range(count):
        left, right = x + span * shop / count + 0.25 * px, x + span * (shop + 1) / count - 0.25 * px
        pane = np.clip(np.array([0.25, 0.27, 0.28]) * rng.uniform(0.6, 2.2), 0, 0.9)
        _rect(canvas, left, foot - 2.4 * px, right, foot - 0.4 * px, pane)
        for _ in range(6):  # the goods in the window
            gx, gy = rng.uniform(left, right - 0.5 * px), foot - rng.uniform(0.6, 1.7) * px
            size = rng.uniform(0.15, 0.5, 2) * px
            goods = np.clip(pane + rng.normal(0, 0.16, 3), 0, 1)
            _rect(canvas, gx, gy - size[1], gx + size[0], gy, goods)
        door = rng.uniform(left, max(right - px, left + 1))
        _rect(canvas, door, foot - 2.3 * px, door + 0.95 * px, foot, wall * rng.uniform(0.25, 0.6))
        awning = np.clip(rng.uniform(0.1, 0.85, 3), 0, 1)
        _rect(canvas, left, foot - 3.0 * px, right, foot - 2.45 * px, awning)
        letters = np.clip(1.1 - awning, 0, 1)
        for k in range(int(rng.integers(3, 9))):
            lx = left + (right - left) * 0.2 + k * 0.3 * px
            _rect(canvas, lx, foot - 2.85 * px, lx + 0.18 * px, foot - 2.6 * px, letters)


def _greenery(canvas: FloatArray, foot: int, px: float, rng: np.random.Generator) -> None:
    base = np.array([0.26, 0.38, 0.16]) * rng.uniform(0.7, 1.2)
    width = canvas.shape[1]
    for layer in range(260):
        x, y = rng.uniform(0, width), foot - rng.uniform(0, 1) ** 1.5 * 7 * px
        radius = rng.uniform(0.3, 1.3) * px
        shade = np.clip(base * (0.55 + 0.5 * layer / 260 + rng.normal(0, 0.08)), 0, 1)
        cv2.circle(canvas, (int(x), int(y)), int(radius), shade.tolist(), -1, cv2.LINE_AA)
    _rect(canvas, 0, foot - 0.8 * px, width, foot, base * 0.7)


def _ground(
    canvas: FloatArray, xs: FloatArray, ys: FloatArray, layout: Layout, rng: np.random.Generator
) -> None:
    camera = layout.camera
    z = (camera.focal_px * camera.height_m / (ys - camera.horizon_y))[:, None]
    x = (xs[None, :] - camera.centre_x) * z / camera.focal_px
    tone = np.clip(rng.uniform(0.38, 0.68) + rng.normal(0, 0.025, 3), 0.2, 0.8)
    canvas[:] = tone
    tile, blurred = rng.uniform(0.5, 1.4), 1.6 * z / camera.focal_px
    grey = rng.normal(0, 0.035, (64, 64)).astype(np.float32)
    fade = np.clip(0.25 / blurred, 0, 1)
    row, column = np.floor(z / tile).astype(int), np.floor(x / tile).astype(int)
    canvas *= 1 + (fade * grey[row % 64, column % 64])[..., None]
    for coordinate in (np.broadcast_to(z, x.shape), x):
        away = np.abs((coordinate / tile + 0.5) % 1.0 - 0.5) * tile
        seam = np.clip(1 - away / np.maximum(0.025, blurred * (1 + z / 6)), 0, 1)
        canvas *= 1 - 0.2 * (fade * seam)[..., None]
    if layout.road is None:
        return
    start, end = layout.road
    asphalt = np.full(3, rng.uniform(0.22, 0.36), np.float32)
    on_road = ((z > start) & (z < end)).astype(np.float32)[..., None]
    canvas[:] = canvas * (1 - on_road) + asphalt * on_road
    for edge in (start, end):
        kerb = (np.abs(z - edge) < 0.12).astype(np.float32)[..., None]
        canvas[:] = canvas * (1 - kerb) + 0.62 * kerb
    dash = (np.abs(z - (start + end) / 2) < 0.09) & ((x % 3.0) < 1.6)
    canvas[dash] = 0.8


def _rect(
    canvas: FloatArray, x0: float, y0: float, x1: float, y1: float, colour: FloatArray
) -> None:
    top, bottom = max(int(y0), 0), max(int(y1), 0)
    canvas[top:bottom, max(int(x0), 0) : max(int(x1), 0)] = colour

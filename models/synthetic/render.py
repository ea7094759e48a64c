"""Renders frames of a synthetic street, with ground truth.

Sprites of people are drawn once per gait phase and heading, then scaled onto a canvas from back to
front. A second image records the owner of each pixel, from which visibility is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.synthetic.backdrop import draw_backdrop, margin_px
from jde_ray.models.synthetic.body import stride_length_m
from jde_ray.models.synthetic.person import Sprite, draw_person
from jde_ray.models.synthetic.props import draw_prop
from jde_ray.models.synthetic.scene import Layout, StreetScene, Walker, build_layout

_NUM_PHASES = 16
_NUM_HEADINGS = 24
_MIN_INSIDE = 0.1  # smallest share of a box inside the frame for a person in the truth
_Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Truth:
    """Ground truth of one frame.

    Attributes:
        track_id: `(n,)` int64, 1, 2, ... one number per person for the whole clip.
        tlbr: `(n, 4)` float32 box of the whole body, hidden parts too, clipped to the frame.
        visibility: `(n,)` float32 share of the body's pixels that can be seen, in [0, 1].
    """

    track_id: IntArray
    tlbr: FloatArray
    visibility: FloatArray


@dataclass(frozen=True)
class _Placed:
    """A sprite placed in a frame; `owner` is a track id, or -1 for objects."""

    sprite: Sprite
    owner: int
    z: float
    scale: float  # frame pixels per pixel of level 0
    x: float  # position of the foot in frame pixels
    y: float

    @property
    def tlbr(self) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = self.sprite.extent
        fx, fy = self.sprite.foot
        s = self.scale
        return (
            self.x + (x0 - fx) * s,
            self.y + (y0 - fy) * s,
            self.x + (x1 - fx) * s,
            self.y + (y1 - fy) * s,
        )


@dataclass
class _Cast:
    """Sprites of one clip, drawn on first use."""

    layout: Layout
    finest_px_per_m: float
    people: dict[tuple[int, int, int], Sprite] = field(default_factory=dict)
    things: dict[int, Sprite] = field(default_factory=dict)

    def person(self, walker: Walker, phase: int, heading: int) -> Sprite:
        key = (walker.track_id, phase, heading)
        if key not in self.people:
            self.people[key] = draw_person(
                walker.appearance,
                phase / _NUM_PHASES,
                heading * 2 * math.pi / _NUM_HEADINGS,
                self.layout.light,
                self._px_per_m(min(walker.start[1], walker.end[1])),
            )
        return self.people[key]

    def thing(self, index: int) -> Sprite:
        if index not in self.things:
            prop = self.layout.props[index]
            self.things[index] = draw_prop(prop.kind, prop.seed, self._px_per_m(prop.z))
        return self.things[index]

    def _px_per_m(self, nearest_m: float) -> float:
        """Resolution needed at the nearest point, so that sprites are rarely enlarged."""
        scale = self.layout.camera.scale(max(nearest_m, self.layout.near_m * 0.9))
        return min(max(scale, 30.0), self.finest_px_per_m)


def render(scene: StreetScene) -> Iterator[tuple[_Image, Truth]]:
    """Frames of a clip in order.

    Args:
        scene: Scene to draw; equal scenes give equal bytes.

    Yields:
        `(H, W, 3)` uint8 RGB and the truth of that frame.
    """
    layout = build_layout(scene)
    cast = _Cast(layout, 190.0 * max(1.0, scene.height / 540))
    street = (draw_backdrop(scene, layout) * 255).astype(np.uint8)
    finish = _Finish(scene)
    for frame_index in range(scene.num_frames):
        time_s = frame_index / scene.frames_per_second
        offset = layout.camera.offset(time_s)
        image = _shifted(street, scene, layout, offset)
        placed = _place(scene, layout, cast, time_s, offset)
        for item in placed:
            _cast_shadow(image, item, layout.light)
        owners = np.zeros(image.shape[:2], np.int16)
        for item in placed:
            _blend(image, owners, item)
        yield finish(image, time_s), _truth(scene, placed, owners)


def _shifted(
    street: _Image, scene: StreetScene, layout: Layout, offset: tuple[float, float]
) -> _Image:
    mx, my = margin_px(scene, layout.camera)
    matrix = np.array([[1, 0, offset[0] - mx], [0, 1, offset[1] - my]], np.float64)
    image = cv2.warpAffine(street, matrix, (scene.width, scene.height), flags=cv2.INTER_LINEAR)
    return image.astype(np.uint8, copy=False)


def _place(
    scene: StreetScene, layout: Layout, cast: _Cast, time_s: float, offset: tuple[float, float]
) -> list[_Placed]:
    """Everything in the frame, from back to front."""
    camera, placed = layout.camera, []
    for index, prop in enumerate(layout.props):
        half = 1.5 * (scene.width / 2 + camera.pan_px) / camera.scale(prop.z) + 3
        x = (prop.x + prop.speed * time_s + half) % (2 * half) - half if prop.speed else prop.x
        sprite = cast.thing(index)
        px, py = camera.project(x, prop.z)
        scale = camera.scale(prop.z) / sprite.px_per_m
        placed.append(_Placed(sprite, -1, prop.z, scale, px + offset[0], py + offset[1]))
    for walker in layout.walkers:
        if not walker.start_s <= time_s < walker.end_s:
            continue
        fraction, walking = walker.progress(time_s)
        x, z = walker.position(fraction)
        px, py = camera.project(x, z)
        if abs(px + offset[0] - scene.width / 2) > scene.width / 2 + camera.scale(z):
            continue
        cycle = fraction * walker.length_m / stride_length_m(walker.appearance)
        phase = int(cycle * _NUM_PHASES) % _NUM_PHASES if walking else -1
        view = walker.heading(fraction) - math.atan2(x, z)
        heading = round(view / (2 * math.pi) * _NUM_HEADINGS) % _NUM_HEADINGS
        sprite = cast.person(walker, phase, heading)
        scale = camera.scale(z) / sprite.px_per_m
        placed.append(_Placed(sprite, walker.track_id, z, scale, px + offset[0], py + offset[1]))
    placed.sort(key=lambda item: -item.z)
    return placed


def _warped(item: _Placed, shape: tuple[int, int]) -> tuple[tuple[slice, slice], _Image] | None:
    """The scaled sprite clipped to the frame: its place there and its premultiplied RGBA."""
    left, top, right, bottom = item.tlbr
    x0, y0 = max(0, math.floor(left) - 1), max(0, math.floor(top) - 1)
    x1, y1 = min(shape[1], math.ceil(right) + 1), min(shape[0], math.ceil(bottom) + 1)
    if x0 >= x1 or y0 >= y1:
        return None
    level = min(max(0, math.floor(-math.log2(item.scale))), len(item.sprite.levels) - 1)
    source, s = item.sprite.levels[level], item.scale * 2**level
    fx, fy = (value / 2**level for value in item.sprite.foot)
    # our pixel centres are at .5, those of warpAffine at integers
    shift_x = item.x - x0 - fx * s + 0.5 * s - 0.5
    shift_y = item.y - y0 - fy * s + 0.5 * s - 0.5
    matrix = np.array([[s, 0, shift_x], [0, s, shift_y]], np.float64)
    pixels = cv2.warpAffine(source, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    return (slice(y0, y1), slice(x0, x1)), pixels.astype(np.uint8, copy=False)


def _blend(image: _Image, owners: NDArray[np.int16], item: _Placed) -> None:
    warped = _warped(item, image.shape[:2])
    if warped is None:
        return
    window, pixels = warped
    keep = 255 - pixels[..., 3:].astype(np.uint16)
    below = image[window]
    below[:] = pixels[..., :3] + ((below * keep + 127) // 255).astype(np.uint8)
    owners[window][pixels[..., 3] > 127] = item.owner


def _cast_shadow(image: _Image, item: _Placed, light: tuple[float, float, float]) -> None:
    """Darken the ground: the outline projected away from the light, and a spot at the feet."""
    left, top, right, bottom = item.tlbr
    height, width = bottom - top, right - left
    if height < 6 or right < -height or left > image.shape[1] + height:
        return
    level = min(2, len(item.sprite.levels) - 1)
    source = item.sprite.levels[level][..., 3]
    s, slope = item.scale * 2**level, -light[0] / max(light[1], 0.2)
    fall = 0.16 + 0.3 * light[2]  # light from the camera's side casts shadows backwards
    reach = abs(slope) * height * 0.7
    x0, x1 = max(0, int(left - reach - 4)), min(image.shape[1], int(right + reach + 4))
    y0 = max(0, int(item.y - fall * height - 6))
    y1 = min(image.shape[0], int(item.y + 0.06 * height + 6))
    if x0 >= x1 or y0 >= y1:
        return
    fx, fy = (value / 2**level for value in item.sprite.foot)
    shear = -slope * 0.7 * s
    matrix = np.array(
        [[s, shear, item.x - x0 - fx * s - fy * shear], [0, s * fall, item.y - y0 - fy * s * fall]]
    )
    shade = cv2.warpAffine(source, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    shade = shade.astype(np.uint8) // 3
    axes = (max(1, int(width * 0.38)), max(1, int(height * 0.022)))
    foot = (int(item.x - x0), int(item.y - y0))
    cv2.ellipse(shade, foot, axes, 0, 0, 360, 120, -1, cv2.LINE_AA)
    shade = cv2.blur(shade, (2 * axes[1] + 1, 2 * axes[1] + 1)).astype(np.uint8)
    below = image[y0:y1, x0:x1]
    below[:] = below * (255 - shade[..., None].astype(np.uint16)) // 255


class _Finish:
    """The camera's effects: exposure, colour, softness, noise."""

    def __init__(self, scene: StreetScene) -> None:
        self._rng = np.random.default_rng([scene.seed, 3])
        self._gamma = float(np.exp(self._rng.uniform(-0.45, 0.3)))
        self._gain = self._rng.uniform(0.85, 1.1) * self._rng.uniform(0.94, 1.06, 3)
        self._softness = float(self._rng.choice([0.0, 0.5, 0.8]))
        noise = self._rng.normal(128, 32, (scene.height + 32, scene.width + 32, 3))
        self._noise = np.clip(noise, 0, 255).astype(np.uint8)
        self._strength = float(self._rng.uniform(0.03, 0.2))

    def __call__(self, image: _Image, time_s: float) -> _Image:
        drift = 1 + 0.03 * math.sin(0.9 * time_s)
        ramp = np.linspace(0, 1, 256)[:, None] ** self._gamma * self._gain * drift
        table = np.clip(ramp * 255, 0, 255).astype(np.uint8)[None]
        result = cv2.LUT(image, table)
        if self._softness:
            result = cv2.GaussianBlur(result, (3, 3), self._softness)
        dx, dy = (int(value) for value in self._rng.integers(0, 32, 2))
        noise = self._noise[dy : dy + image.shape[0], dx : dx + image.shape[1]]
        mixed = cv2.addWeighted(result, 1.0, noise, self._strength, -128 * self._strength)
        return mixed.astype(np.uint8, copy=False)


def _truth(scene: StreetScene, placed: list[_Placed], owners: NDArray[np.int16]) -> Truth:
    people = sorted((item for item in placed if item.owner > 0), key=lambda item: item.owner)
    seen = np.bincount(np.maximum(owners, 0).ravel(), minlength=1)
    rows: list[tuple[int, list[float], float]] = []
    for item in people:
        x0, y0, x1, y1 = item.tlbr
        box = [max(x0, 0.0), max(y0, 0.0), min(x1, scene.width), min(y1, scene.height)]
        inside = max(box[2] - box[0], 0) * max(box[3] - box[1], 0) / ((x1 - x0) * (y1 - y0))
        if inside < _MIN_INSIDE:
            continue
        count = int(seen[item.owner]) if item.owner < len(seen) else 0
        share = min(1.0, count / (item.sprite.area * item.scale**2))
        rows.append((item.owner, box, share))
    return Truth(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
    )

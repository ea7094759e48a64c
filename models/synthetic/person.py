"""Sprites of a dressed person, one per gait phase and heading."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.synthetic.appearance import Appearance
from jde_ray.models.synthetic.body import Pose, walking_pose
from jde_ray.models.synthetic.solids import Paint, SolidCanvas, Surface, plain

_MARGIN_M = 0.12


@dataclass(frozen=True)
class Sprite:
    """A picture to stand on the ground.

    Attributes:
        levels: Premultiplied RGBA `(h, w, 4)` uint8; each level has half the size of the previous.
        px_per_m: Resolution of level 0.
        foot: Column and row of the point on the ground, in pixels of level 0.
        extent: tlbr of the drawn part, in pixels of level 0.
        area: Number of drawn pixels in level 0.
    """

    levels: tuple[NDArray[np.uint8], ...]
    px_per_m: float
    foot: tuple[float, float]
    extent: tuple[float, float, float, float]
    area: float


def make_sprite(rgba: NDArray[np.uint8], px_per_m: float, foot: tuple[float, float]) -> Sprite:
    """Sprite from a premultiplied RGBA image `(h, w, 4)`, halved down to 16 pixels."""
    levels = [rgba]
    while min(levels[-1].shape[:2]) >= 32:
        height, width = levels[-1].shape[:2]
        smaller = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(smaller.astype(np.uint8))
    solid = rgba[..., 3] > 127
    columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    extent = (0.0, 0.0, 1.0, 1.0)
    if len(columns):
        extent = (float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0)
    return Sprite(tuple(levels), px_per_m, foot, extent, float(max(solid.sum(), 1)))


def draw_person(
    appearance: Appearance,
    phase: float,
    heading: float,
    light: tuple[float, float, float],
    px_per_m: float,
) -> Sprite:
    """Sprite of a person.

    Args:
        appearance: Body and clothes.
        phase: Phase of the gait in [0, 1), negative for standing.
        heading: Radians: 0 is away from the camera, pi / 2 to the right.
        light: Unit vector to the light: right, up, towards the camera.
        px_per_m: Resolution.
    """
    folds = _folds(appearance.seed)
    height = appearance.height_m + 0.2
    canvas = SolidCanvas(1.5, height, _MARGIN_M, px_per_m, heading, light, folds)
    pose = walking_pose(appearance, phase)
    _draw_legs(canvas, appearance, pose)
    _draw_trunk(canvas, appearance, pose)
    _draw_arms(canvas, appearance, pose)
    _draw_head(canvas, appearance, pose)
    _draw_bag(canvas, appearance, pose)
    rgb = np.clip(canvas.colour, 0, 1) * canvas.alpha[..., None]
    rgba = np.dstack([rgb, canvas.alpha])
    image = (rgba * 255 + 0.5).astype(np.uint8)
    return make_sprite(
        image, px_per_m, (canvas.shape[1] / 2, canvas.shape[0] - _MARGIN_M * px_per_m)
    )


def _at(side: float, front: float, up: float) -> FloatArray:
    return np.array([side, front, up])


def _folds(seed: int) -> FloatArray:
    noise = np.random.default_rng(seed).normal(0, 1, (64, 64)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.2)
    folds: FloatArray = np.clip(1 + 0.07 * smooth / max(float(smooth.std()), 1e-6), 0.75, 1.25)
    return folds


def _draw_legs(canvas: SolidCanvas, who: Appearance, pose: Pose) -> None:
    j, g = pose.joints, who.girth * who.height_m / 1.75
    skin, cloth = plain(who.skin), plain(who.bottom)
    upper = plain(who.top) if who.legwear == "dress" else cloth
    lower = cloth if who.legwear == "trousers" else skin
    thigh, calf, ankle = (0.088, 0.066, 0.056) if lower is cloth else (0.084, 0.055, 0.036)
    shoe = plain(who.shoes)
    for s in "lr":
        knee, foot = j[f"knee_{s}"], j[f"ankle_{s}"]
        hip = j[f"hip_{s}"] * 0.88 + knee * 0.12  # lowered so that it stays under the shirt
        middle = hip * 0.35 + knee * 0.65
        canvas.limb(hip, middle, thigh * g, thigh * g * 0.88, upper)
        above = upper if lower is cloth else lower
        canvas.limb(middle, knee, thigh * g * 0.88 if above is upper else 0.07 * g, calf * g, above)
        belly = knee * 0.65 + foot * 0.35 + _at(0.0, -0.012, 0.0)
        canvas.limb(knee, belly, calf * g, calf * g * 0.97, lower)
        canvas.limb(belly, foot, calf * g * 0.97, ankle * g, lower)
        if who.legwear == "shorts":
            hem = j[f"hip_{s}"] * 0.15 + knee * 0.85
            canvas.limb(hip, hem, 0.094 * g, 0.088 * g, cloth)
        heel = foot + _at(0.0, -0.035, -0.012)
        canvas.limb(heel, j[f"toe_{s}"], 0.043, 0.033, shoe)
        canvas.limb(foot, foot * 0.45 + j[f"toe_{s}"] * 0.55, 0.045, 0.036, shoe)


def _draw_trunk(canvas: SolidCanvas, who: Appearance, pose: Pose) -> None:
    j, unit = pose.joints, who.height_m / 1.75
    base, lean = float(j["pelvis"][2]), float(j["neck"][1])
    g = who.girth
    profile = [  # height over the hip, half width, half depth
        (-0.08, 0.165 * g, 0.125 * g),
        (0.02, 0.172 * g, 0.125 * g),
        (0.14, 0.152 * g, 0.112 * g),
        (0.32, 0.178 * g**0.8, 0.124 * g),
        (0.42, 0.188 * g**0.6, 0.112),
        (0.465, 0.172 * g**0.6, 0.095),
        (0.50, 0.125 * g**0.6, 0.078),
        (0.53, 0.072, 0.065),
        (0.55, 0.056, 0.06),
    ]
    if who.coat_m > 0.02 and who.legwear == "trousers":
        profile.insert(0, (-0.08 - who.coat_m, 0.165 * g + who.coat_m * 0.12, 0.14 * g))
    rings = np.array(
        [(base + h * unit, 0.0, lean * max(h, 0) / 0.53, w * unit, d * unit) for h, w, d in profile]
    )
    stride = abs(float(j["ankle_l"][1] - j["ankle_r"][1]))
    if who.legwear in ("skirt", "dress"):
        paint = plain(who.bottom) if who.legwear == "skirt" else _top_paint(who, base)
        length = 0.42 if who.seed % 2 else 0.62
        hem = base - length * unit
        skirt = [
            (hem, 0.0, 0.0, (0.19 + 0.05 * length) * unit, (0.16 + 0.22 * stride) * unit),
            (base, 0.0, 0.0, 0.172 * g * unit, 0.13 * g * unit),
            (base + 0.14 * unit, 0.0, 0.0, 0.15 * g * unit, 0.11 * g * unit),
        ]
        canvas.trunk(np.array(skirt), paint)
        rings = rings[1:]
    elif who.coat_m <= 0.02:
        rings = rings[1:]
        canvas.trunk(
            np.array(
                [
                    (base - 0.1 * unit, 0, 0, 0.16 * g * unit, 0.12 * g * unit),
                    (base + 0.08 * unit, 0, 0, 0.166 * g * unit, 0.12 * g * unit),
                ]
            ),
            plain(who.bottom),
        )
    canvas.trunk(rings, _top_paint(who, base))
    canvas.limb(
        j["neck"] - _at(0, 0, 0.03), j["head"] - _at(0, 0.02, 0.05), 0.055, 0.05, plain(who.skin)
    )


def _top_paint(who: Appearance, hip_m: float) -> Paint:
    first, second = np.array(who.top, np.float32), np.array(who.top_second, np.float32)

    def paint(surface: Surface) -> FloatArray:
        around = np.arctan2(surface.side, surface.front)
        rise = surface.along - hip_m
        if who.pattern == "stripes":
            use = np.sin(around * 22) > 0.2
        elif who.pattern == "bands":
            use = np.sin(surface.along * 2 * math.pi / 0.09) > 0
        elif who.pattern == "check":
            use = (np.sin(around * 14) > 0) ^ (np.sin(surface.along * 50) > 0)
        elif who.pattern == "print":
            use = (np.abs(around) < 0.55) & (np.abs(rise - 0.34) < 0.08)
        else:
            use = np.zeros(surface.along.shape, bool)
        if who.open_jacket:
            use = np.abs(around) < 0.28 + 0.25 * np.clip(0.5 - rise, 0, 1)
        shade = np.where(np.abs(rise + 0.02) < 0.012, 0.75, 1.0)
        shade = shade * np.where((np.abs(around) < 0.03) & (who.seed % 3 == 0), 0.7, 1.0)
        return np.where(use[:, None], second, first) * shade[:, None]

    return paint


def _draw_arms(canvas: SolidCanvas, who: Appearance, pose: Pose) -> None:
    j, g = pose.joints, who.girth * who.height_m / 1.75
    skin = plain(who.skin)
    sleeve = plain((who.top[0] * 0.95, who.top[1] * 0.95, who.top[2] * 0.95))
    for s in "lr":
        shoulder, elbow, hand = j[f"shoulder_{s}"], j[f"elbow_{s}"], j[f"hand_{s}"]
        if who.long_sleeves:
            canvas.limb(shoulder, elbow, 0.057 * g, 0.050 * g, sleeve)
            canvas.limb(elbow, hand, 0.049 * g, 0.040 * g, sleeve)
        else:
            canvas.limb(shoulder, elbow, 0.048 * g, 0.041 * g, skin)
            canvas.limb(shoulder, shoulder * 0.35 + elbow * 0.65, 0.057 * g, 0.056 * g, sleeve)
            canvas.limb(elbow, hand, 0.041 * g, 0.030 * g, skin)
        tip = hand + (hand - elbow) * 0.3
        if who.arm_swing > 0.3:
            canvas.limb(hand, tip, 0.036, 0.026, skin)


def _draw_head(canvas: SolidCanvas, who: Appearance, pose: Pose) -> None:
    head = pose.joints["head"]
    skin, hair = np.array(who.skin, np.float32), np.array(who.hair_colour, np.float32)
    line = 0.42 if who.hair in ("cap", "hood") else 0.55

    def paint(surface: Surface) -> FloatArray:
        front, up, side = surface.front, surface.up, np.abs(surface.side)
        hairy = (up > line + 0.25 * front - 0.3 * side) & (who.hair != "bald")
        nape = -0.55 if who.hair == "short" else -0.85
        hairy |= (front < 0.12 - 0.25 * (up < 0)) & (up > nape) & (who.hair != "bald")
        face = (front > 0.55)[:, None]
        eyes = (np.abs(up - 0.08) < 0.07) & (np.abs(side - 0.36) < 0.13)
        brows = (np.abs(up - 0.24) < 0.04) & (np.abs(side - 0.36) < 0.18)
        mouth = (np.abs(up + 0.48) < 0.05) & (side < 0.24)
        nose = (np.abs(up + 0.14) < 0.05) & (side < 0.13)
        colour = np.where(face & (eyes | brows)[:, None], skin * 0.38, skin)
        colour = np.where(face & mouth[:, None], skin * (0.82, 0.55, 0.55), colour)
        colour = np.where(face & nose[:, None], skin * 0.78, colour)
        return np.where(hairy[:, None], hair, colour)

    canvas.ellipsoid(head, (0.081, 0.1, 0.128), paint)
    back = plain(who.hair_colour)
    if who.hair == "long":
        canvas.ellipsoid(head + _at(0, -0.035, -0.03), (0.088, 0.085, 0.145), back)
        canvas.ellipsoid(head + _at(0, -0.055, -0.14), (0.085, 0.05, 0.12), back)
    elif who.hair == "bun":
        canvas.ellipsoid(head + _at(0, -0.10, 0.06), (0.045, 0.045, 0.045), back)
    elif who.hair == "hood":
        canvas.ellipsoid(head + _at(0, -0.035, -0.005), (0.1, 0.1, 0.14), back)
    elif who.hair == "cap":
        canvas.ellipsoid(head + _at(0, -0.005, 0.06), (0.089, 0.103, 0.08), back)
        canvas.limb(head + _at(0, 0.07, 0.055), head + _at(0, 0.15, 0.045), 0.03, 0.02, back)
    elif who.hair == "short":
        canvas.ellipsoid(head + _at(0, -0.014, 0.035), (0.087, 0.098, 0.104), back)
    canvas.ellipsoid(head + _at(0, 0.098, -0.015), (0.012, 0.016, 0.02), plain(who.skin))


def _draw_bag(canvas: SolidCanvas, who: Appearance, pose: Pose) -> None:
    j, paint = pose.joints, plain(who.bag_colour)
    strap = plain((who.bag_colour[0] * 0.7, who.bag_colour[1] * 0.7, who.bag_colour[2] * 0.7))
    if who.bag == "backpack":
        canvas.ellipsoid(j["chest"] + _at(0, -0.18, 0.0), (0.14, 0.1, 0.22), paint)
        for sign in (-1.0, 1.0):
            top = j["chest"] + _at(sign * 0.1, 0.02, 0.19)
            canvas.limb(top, j["chest"] + _at(sign * 0.12, 0.13, 0.0), 0.018, 0.018, strap)
    elif who.bag == "shoulder":
        sign = 1.0 if who.seed % 2 else -1.0
        bag = j["pelvis"] + _at(sign * 0.21, 0.02, -0.02)
        canvas.ellipsoid(bag, (0.07, 0.15, 0.11), paint)
        canvas.limb(
            bag + _at(0, 0, 0.08), j["neck"] + _at(sign * 0.11, 0.03, -0.03), 0.016, 0.016, strap
        )
    elif who.bag == "carrier":
        hand = j["hand_r"]
        canvas.limb(hand - _at(0, 0, 0.08), hand - _at(0, 0, 0.15), 0.012, 0.012, strap)
        bottom = hand - _at(0, 0, 0.36)
        canvas.limb(hand - _at(0, 0, 0.2), bottom, 0.075, 0.1, paint)

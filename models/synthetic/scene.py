"""A synthetic street: the camera, the paths of people, the objects in the street.

World frame: X to the right, Z away from the camera, in metres on a flat ground. The camera is level
and its image shifted, so that verticals stay vertical and the horizon is one row of pixels.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

import numpy as np

from jde_ray.models.synthetic.appearance import Appearance, sample_appearance

PropKind = Literal["lamp", "bin", "sign", "tree", "car", "bollard", "pillar", "bench", "hydrant"]


@dataclass(frozen=True)
class StreetScene:
    """Settings of one synthetic clip, which determine every pixel.

    Attributes:
        seed: Seed of the place, the light, the people and their paths.
        width: Frame width in pixels.
        height: Frame height in pixels.
        frames_per_second: Rate of the clip.
        num_frames: Length of the clip.
        num_people: Approximate number of people present; a new person replaces one who leaves.

    Raises:
        ValueError: If a value is out of range, naming it and what is expected.
    """

    seed: int
    _: KW_ONLY
    width: int = 960
    height: int = 540
    frames_per_second: float = 25.0
    num_frames: int = 250
    num_people: int = 12

    def __post_init__(self) -> None:
        bounds = {
            "seed": (self.seed, 0, 2**63),
            "width": (self.width, 64, 4096),
            "height": (self.height, 64, 4096),
            "frames_per_second": (self.frames_per_second, 0.1, 1000),
            "num_frames": (self.num_frames, 0, 10**6),
            "num_people": (self.num_people, 0, 200),
        }
        for name, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise ValueError(f"{name}: got {value}, expected {low} to {high}")


@dataclass(frozen=True)
class Camera:
    """Projection of the ground to pixels, and motion of the image.

    Attributes:
        centre_x: Principal column in pixels.
        horizon_y: Row of the horizon in pixels.
        focal_px: Focal length in pixels.
        height_m: Height of the lens over the ground.
        pan_px: Amplitude of the slow pan in pixels; 0 stands still.
        pan_period_s: Seconds of a full swing.
        pan_phase: Phase of the pan in radians.
        shake_px: Standard deviation of the hand's shake in pixels.
    """

    centre_x: float
    horizon_y: float
    focal_px: float
    height_m: float
    pan_px: float
    pan_period_s: float
    pan_phase: float
    shake_px: float

    def scale(self, z: float) -> float:
        """Pixels per metre at depth `z` metres."""
        return self.focal_px / z

    def project(self, x: float, z: float) -> tuple[float, float]:
        """Pixel of a ground point, before the motion of the image."""
        scale = self.scale(z)
        return self.centre_x + x * scale, self.horizon_y + self.height_m * scale

    def depth_of_row(self, row: float) -> float:
        """Depth in metres of the ground in a pixel row below the horizon."""
        return self.focal_px * self.height_m / (row - self.horizon_y)

    def offset(self, time_s: float) -> tuple[float, float]:
        """Shift of the image in pixels: a sum of sines, smooth and reproducible."""
        pan = self.pan_px * math.sin(2 * math.pi * time_s / self.pan_period_s + self.pan_phase)
        x = sum(math.sin(2 * math.pi * f * time_s + p) for f, p in ((0.7, 1), (1.9, 2), (4.3, 4)))
        y = sum(math.sin(2 * math.pi * f * time_s + p) for f, p in ((0.9, 3), (2.3, 5), (5.1, 6)))
        return pan + self.shake_px * x, self.shake_px * y


@dataclass(frozen=True)
class Walker:
    """One person and their path: a straight line with a bend and perhaps a stop.

    Attributes:
        track_id: 1, 2, ... in the order of `start_s`.
        appearance: Body and clothes, the same for the whole clip.
        start: World (X, Z) in metres at `start_s`.
        end: World (X, Z) in metres at the end of the path.
        start_s: Start time in seconds; may be before the clip.
        speed: Speed along the line in metres per second.
        bend_m: Sideways deviation halfway.
        pause_at: Fraction of the path at which the person stops.
        pause_s: Duration of the stop.
    """

    track_id: int
    appearance: Appearance
    start: tuple[float, float]
    end: tuple[float, float]
    start_s: float
    speed: float
    bend_m: float
    pause_at: float
    pause_s: float

    @property
    def length_m(self) -> float:
        """Length of the straight line."""
        return math.dist(self.start, self.end)

    @property
    def end_s(self) -> float:
        """Time in seconds at the end of the path."""
        return self.start_s + self.length_m / self.speed + self.pause_s

    def progress(self, time_s: float) -> tuple[float, bool]:
        """Fraction of the path covered at a time, and whether the person is walking."""
        walked = (time_s - self.start_s) * self.speed / self.length_m
        if walked < self.pause_at:
            return walked, True
        walked -= self.pause_s * self.speed / self.length_m
        return max(walked, self.pause_at), walked >= self.pause_at

    def position(self, fraction: float) -> tuple[float, float]:
        """World (X, Z) in metres after a fraction of the path."""
        (x0, z0), (x1, z1) = self.start, self.end
        bend = self.bend_m * math.sin(math.pi * fraction) / self.length_m
        x = x0 + (x1 - x0) * fraction - (z1 - z0) * bend
        return x, z0 + (z1 - z0) * fraction + (x1 - x0) * bend

    def heading(self, fraction: float) -> float:
        """Walking direction in radians: 0 is away from the camera, pi / 2 to the right."""
        (x0, z0), (x1, z1) = self.position(fraction), self.position(fraction + 0.01)
        return math.atan2(x1 - x0, z1 - z0)


@dataclass(frozen=True)
class Prop:
    """An object other than a person; it hides people behind it. Cars move, all others stand.

    Attributes:
        kind: Lamp, bin, car, ...
        x: World X in metres at time 0.
        z: World Z in metres.
        seed: Seed of its appearance.
        speed: Speed to the right in metres per second.
    """

    kind: PropKind
    x: float
    z: float
    seed: int
    speed: float = 0.0


@dataclass(frozen=True)
class Layout:
    """Content of a scene, generated from its seed.

    Attributes:
        camera: Projection and motion of the camera.
        walkers: People, in the order of track ids.
        props: Objects other than people.
        near_m: Depth at the bottom row.
        far_m: Depth of the facades.
        light: Unit vector towards the light: right, up, towards the camera.
        road: Depths in metres of the road's edges; None for no road.
    """

    camera: Camera
    walkers: tuple[Walker, ...]
    props: tuple[Prop, ...]
    near_m: float
    far_m: float
    light: tuple[float, float, float]
    road: tuple[float, float] | None


def build_layout(scene: StreetScene) -> Layout:
    """Generate everything that the seed decides, except textures."""
    rng = np.random.default_rng([scene.seed, 1])
    camera = _sample_camera(scene, rng)
    near = camera.depth_of_row(scene.height)
    far = near * rng.uniform(3.2, 5.0)
    direction = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.9)])
    direction /= np.linalg.norm(direction)
    road = None
    if rng.random() < 0.5:
        start = near + (far - near) * rng.uniform(0.3, 0.5)
        road = (start, min(start + rng.uniform(5, 8), far - 2.5))
    walkers = _sample_walkers(scene, camera, near, far, np.random.default_rng([scene.seed, 4]))
    props = _sample_props(scene, camera, near, far, road, rng)
    light = (float(direction[0]), float(direction[1]), float(direction[2]))
    return Layout(camera, walkers, props, near, far, light, road)


def _sample_camera(scene: StreetScene, rng: np.random.Generator) -> Camera:
    moves = rng.random() < 0.6
    return Camera(
        centre_x=scene.width / 2,
        horizon_y=scene.height * rng.uniform(0.16, 0.4),
        focal_px=scene.width * rng.uniform(0.95, 1.5),
        height_m=rng.uniform(2.0, 4.6),
        pan_px=scene.width * rng.uniform(0.02, 0.09) if moves else 0.0,
        pan_period_s=rng.uniform(9, 25),
        pan_phase=rng.uniform(0, 2 * math.pi),
        shake_px=scene.width / 960 * rng.uniform(0.2, 1.4) if moves else 0.0,
    )


def half_view_m(scene: StreetScene, camera: Camera, z: float) -> float:
    """Half the width in metres of the area that the camera ever sees at depth `z`."""
    return (scene.width / 2 + camera.pan_px + 4 * camera.shake_px) / camera.scale(z)


def _sample_walkers(
    scene: StreetScene, camera: Camera, near: float, far: float, rng: np.random.Generator
) -> tuple[Walker, ...]:
    duration = scene.num_frames / scene.frames_per_second
    drafts: list[Walker] = []
    for slot in range(scene.num_people):
        friend = drafts[-1] if slot % 4 == 3 and drafts else None
        walker = _sample_walker(scene, camera, near, far, rng)
        if friend is not None and friend.start_s < 0:
            walker = _beside(friend, walker, rng)
        else:
            way = walker.end_s - walker.start_s
            walker = replace(walker, start_s=-way * float(rng.uniform(0.05, 0.75)))
        drafts.append(walker)
        while walker.end_s < duration:
            ended = walker.end_s
            walker = _sample_walker(scene, camera, near, far, rng)
            walker = replace(walker, start_s=ended + float(rng.uniform(0, 1.5)))
            drafts.append(walker)
    drafts.sort(key=lambda walker: walker.start_s)
    return tuple(replace(walker, track_id=i + 1) for i, walker in enumerate(drafts))


def _sample_walker(
    scene: StreetScene, camera: Camera, near: float, far: float, rng: np.random.Generator
) -> Walker:
    depths = np.exp(rng.uniform(math.log(near * 0.98), math.log(far - 1.5), 2))
    z0, z1 = float(depths[0]), float(depths[1])
    if rng.random() < 0.7:  # across the view at nearly constant depth: such people hide each other
        z1 = float(np.clip(z0 + rng.normal(0, 0.8), near * 0.95, far - 1))
        side = rng.choice([-1.0, 1.0])
        start = (-side * (half_view_m(scene, camera, z0) + 0.7), z0)
        end = (side * (half_view_m(scene, camera, z1) + 0.7), z1)
    else:  # towards the camera and out at the bottom, or the other way round
        z0, z1 = max(z0, z1, 0.6 * far), near * 0.62
        side = rng.choice([-1.0, 1.0])
        start = (side * (half_view_m(scene, camera, z0) + 0.7), z0)
        end = (rng.uniform(-0.7, 0.7) * half_view_m(scene, camera, near), z1)
        if rng.random() < 0.5:
            start, end = end, start
    pauses = rng.random() < 0.25
    return Walker(
        track_id=0,
        appearance=sample_appearance(rng),
        start=start,
        end=end,
        start_s=0.0,
        speed=float(np.clip(rng.normal(1.3, 0.22), 0.75, 2.2)),
        bend_m=float(rng.normal(0, 0.5)),
        pause_at=float(rng.uniform(0.25, 0.75)),
        pause_s=float(rng.uniform(1.5, 6)) if pauses else 0.0,
    )


def _beside(friend: Walker, walker: Walker, rng: np.random.Generator) -> Walker:
    """A walker on the same path, an arm's length further back: people who walk together."""
    gap = float(rng.uniform(0.3, 0.7))
    (x0, z0), (x1, z1) = friend.start, friend.end
    start = (x0 + float(rng.uniform(-0.4, 0.4)), z0 + gap)
    end = (x1 + float(rng.uniform(-0.2, 0.2)), z1 + gap)
    return replace(friend, appearance=walker.appearance, start=start, end=end)


def _sample_props(
    scene: StreetScene,
    camera: Camera,
    near: float,
    far: float,
    road: tuple[float, float] | None,
    rng: np.random.Generator,
) -> tuple[Prop, ...]:
    kinds: tuple[PropKind, ...]
    kinds = ("lamp", "bin", "sign", "tree", "bollard", "pillar", "bench", "hydrant")
    props: list[Prop] = []
    for _ in range(int(rng.integers(4, 10))):
        z = float(near * 1.02 + (far - 0.5 - near) * rng.uniform(0, 1) ** 1.4)
        if road is not None and road[0] - 0.3 < z < road[1] + 0.3:
            z = road[0] - 0.4  # street furniture stands on the kerb, not on the road
        x = rng.uniform(-1, 1) * half_view_m(scene, camera, z)
        props.append(Prop(kinds[int(rng.integers(len(kinds)))], x, z, int(rng.integers(2**31))))
    for _ in range(int(rng.integers(0, 4))):
        drives = road is not None and rng.random() < 0.5
        z = float(rng.uniform(*road)) if drives and road else far - 1.2
        x = rng.uniform(-1.3, 1.3) * half_view_m(scene, camera, z)
        speed = float(rng.choice([-1, 1]) * rng.uniform(3, 7)) if drives else 0.0
        props.append(Prop("car", x, z, int(rng.integers(2**31)), speed))
    return tuple(props)

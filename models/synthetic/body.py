"""A person as solid shapes in a body frame, posed by the phase of the gait.

Body frame, metres: `side` to the person's left, `front` the way they face, `up` from the ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.synthetic.appearance import Appearance


@dataclass(frozen=True)
class Pose:
    """Joints of one instant, each `(3,)` side, front, up in metres.

    Attributes:
        joints: By name: `hip_l`, `knee_l`, `ankle_l`, `toe_l`, `shoulder_l`, `elbow_l`,
            `hand_l`, the same with `_r`, and `pelvis`, `chest`, `neck`, `head`.
    """

    joints: dict[str, FloatArray]


def walking_pose(appearance: Appearance, phase: float) -> Pose:
    """The pose at a phase of the gait.

    Args:
        appearance: Gives height, arm swing and stride.
        phase: In [0, 1), 0 is the left heel strike; negative for standing still.
    """
    unit = appearance.height_m / 1.75
    stands = phase < 0
    joints: dict[str, FloatArray] = {}
    for side, sign, shift in (("l", 1.0, 0.0), ("r", -1.0, 0.5)):
        _leg(joints, side, sign, (phase + shift) % 1.0, stands, appearance)
        _arm(joints, side, sign, (phase + shift) % 1.0, stands, appearance)
    lean = 0.0 if stands else 0.035
    joints["pelvis"] = np.array([0.0, 0.0, 0.0])
    joints["chest"] = np.array([0.0, lean * 0.6, 0.30])
    joints["neck"] = np.array([0.0, lean, 0.52])
    joints["head"] = np.array([0.0, lean + 0.025, 0.682])
    floor = min(joints[name][2] for name in ("ankle_l", "ankle_r", "toe_l", "toe_r"))
    for name, joint in joints.items():
        joints[name] = (joint - (0.0, 0.0, floor - 0.045)) * unit
    return Pose(joints)


def _leg(
    joints: dict[str, FloatArray],
    side: str,
    sign: float,
    phase: float,
    stands: bool,
    appearance: Appearance,
) -> None:
    hip_angle = math.radians(4 + 22 * appearance.stride * math.cos(2 * math.pi * phase))
    knee_angle = math.radians(6 + 54 * _bump(phase, 0.72, 0.13) + 12 * _bump(phase, 0.15, 0.09))
    foot_angle = math.radians(14 * _bump(phase, 0.97, 0.1) - 38 * _bump(phase, 0.62, 0.11))
    if stands:
        hip_angle, knee_angle, foot_angle = math.radians(2.0 * sign), 0.03, 0.0
    hip = np.array([sign * 0.085, 0.0, 0.0])
    knee = hip + 0.43 * _swing(hip_angle, sign * 0.01)
    ankle = knee + 0.42 * _swing(hip_angle - knee_angle, -sign * 0.005)
    foot = np.array([sign * 0.03, math.cos(foot_angle) * 0.17, math.sin(foot_angle) * 0.17 - 0.01])
    joints |= {f"hip_{side}": hip, f"knee_{side}": knee, f"ankle_{side}": ankle}
    joints[f"toe_{side}"] = ankle + foot


def _arm(
    joints: dict[str, FloatArray],
    side: str,
    sign: float,
    phase: float,
    stands: bool,
    appearance: Appearance,
) -> None:
    swing = 0.0 if stands else appearance.arm_swing
    angle = math.radians(-2 - 26 * swing * math.cos(2 * math.pi * phase))
    bend = math.radians(14 + 16 * swing * (0.5 - 0.5 * math.cos(2 * math.pi * phase)))
    if appearance.arm_swing < 0.3:
        bend = math.radians(48)
    shoulder = np.array([sign * 0.170 * appearance.girth**0.5, 0.02, 0.452])
    elbow = shoulder + 0.29 * _swing(angle, sign * 0.12)
    hand = elbow + 0.25 * _swing(angle + bend, sign * 0.02)
    joints |= {f"shoulder_{side}": shoulder, f"elbow_{side}": elbow, f"hand_{side}": hand}


def _swing(angle: float, outwards: float) -> FloatArray:
    """Unit vector of a limb hanging down, swung to the front by `angle` radians."""
    return np.array([outwards, math.sin(angle), -math.cos(angle)])


def _bump(phase: float, centre: float, width: float) -> float:
    distance = abs((phase - centre + 0.5) % 1.0 - 0.5)
    return math.exp(-0.5 * (distance / width) ** 2)


def stride_length_m(appearance: Appearance) -> float:
    """Ground covered in one gait cycle (two steps), so that feet do not slide."""
    leg = 0.85 * appearance.height_m / 1.75
    return 4 * leg * math.sin(math.radians(22 * appearance.stride)) * 0.97

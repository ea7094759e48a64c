"""Appearance of a synthetic person: build, skin, hair, clothes and bag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

_T = TypeVar("_T")

Colour = tuple[float, float, float]  # RGB in [0, 1]

Pattern = Literal["plain", "stripes", "bands", "check", "print"]
Legwear = Literal["trousers", "shorts", "skirt", "dress"]
Hair = Literal["short", "long", "bald", "cap", "hood", "bun"]
Bag = Literal["none", "backpack", "shoulder", "carrier"]

_SKIN: tuple[Colour, ...] = (
    (0.93, 0.77, 0.68),
    (0.87, 0.68, 0.56),
    (0.78, 0.57, 0.44),
    (0.63, 0.44, 0.32),
    (0.47, 0.32, 0.23),
    (0.34, 0.23, 0.17),
)
_HAIR: tuple[Colour, ...] = (
    (0.07, 0.06, 0.06),
    (0.16, 0.11, 0.08),
    (0.32, 0.21, 0.13),
    (0.66, 0.50, 0.30),
    (0.45, 0.22, 0.12),
    (0.62, 0.61, 0.60),
)
_CLOTH: tuple[Colour, ...] = (
    (0.08, 0.08, 0.09),
    (0.20, 0.21, 0.23),
    (0.45, 0.46, 0.47),
    (0.88, 0.87, 0.84),
    (0.12, 0.17, 0.32),
    (0.22, 0.38, 0.62),
    (0.55, 0.70, 0.84),
    (0.62, 0.13, 0.14),
    (0.83, 0.36, 0.30),
    (0.88, 0.66, 0.22),
    (0.24, 0.36, 0.22),
    (0.45, 0.50, 0.28),
    (0.55, 0.42, 0.30),
    (0.78, 0.70, 0.56),
    (0.45, 0.25, 0.45),
    (0.85, 0.60, 0.66),
    (0.16, 0.46, 0.46),
)
_DENIM: tuple[Colour, ...] = ((0.17, 0.22, 0.34), (0.27, 0.34, 0.46), (0.42, 0.50, 0.60))
_SHOES: tuple[Colour, ...] = (
    (0.07, 0.07, 0.07),
    (0.25, 0.17, 0.11),
    (0.82, 0.81, 0.79),
    (0.40, 0.40, 0.42),
)


@dataclass(frozen=True)
class Appearance:
    """Body and clothes of one person; colours are RGB in [0, 1].

    Attributes:
        height_m: Standing height.
        girth: Width of body and limbs, 1 is average.
        skin: Colour of the skin.
        hair: Hairstyle or headwear.
        hair_colour: Colour of the hair, cap or hood.
        top: Colour of the shirt or jacket.
        top_second: Second colour of its pattern, or of the shirt under an open jacket.
        pattern: Pattern of the top.
        open_jacket: Whether the second colour shows at the front.
        coat_m: Length of the top below the hip.
        long_sleeves: Whether sleeves reach to the wrist.
        legwear: Trousers, skirt, ...
        bottom: Colour of the legwear.
        shoes: Colour of the shoes.
        bag: Kind of bag carried.
        bag_colour: Colour of the bag.
        arm_swing: Amplitude of the arms: 1 is a full swing, 0 is hands in the pockets.
        stride: Length of the steps, 1 is average.
        seed: Seeds the folds in the cloth.
    """

    height_m: float
    girth: float
    skin: Colour
    hair: Hair
    hair_colour: Colour
    top: Colour
    top_second: Colour
    pattern: Pattern
    open_jacket: bool
    coat_m: float
    long_sleeves: bool
    legwear: Legwear
    bottom: Colour
    shoes: Colour
    bag: Bag
    bag_colour: Colour
    arm_swing: float
    stride: float
    seed: int


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """A person drawn at random."""
    legwear: Legwear = _choose(rng, ("trousers", "shorts", "skirt", "dress"), (70, 12, 9, 9))
    hair: Hair = _choose(
        rng, ("short", "long", "bald", "cap", "hood", "bun"), (40, 28, 6, 10, 8, 8)
    )
    top = _tinted(rng, _CLOTH)
    denim = legwear in ("trousers", "shorts") and rng.random() < 0.45
    warm = legwear == "trousers" and rng.random() < 0.6
    hair_colour = _tinted(rng, _CLOTH if hair == "cap" else _HAIR)
    return Appearance(
        height_m=float(np.clip(rng.normal(1.72, 0.09), 1.48, 1.98)),
        girth=float(np.clip(rng.normal(1.06, 0.1), 0.86, 1.4)),
        skin=_tinted(rng, _SKIN),
        hair=hair,
        hair_colour=top if hair == "hood" else hair_colour,
        top=top,
        top_second=_tinted(rng, _CLOTH),
        pattern=_choose(rng, ("plain", "stripes", "bands", "check", "print"), (60, 10, 10, 8, 12)),
        open_jacket=bool(warm and rng.random() < 0.45),
        coat_m=float(rng.uniform(0.0, 0.1) + (rng.random() < 0.25 and warm) * 0.3),
        long_sleeves=bool(warm or rng.random() < 0.35),
        legwear=legwear,
        bottom=_tinted(rng, _DENIM) if denim else _tinted(rng, _CLOTH[:6] + _CLOTH[10:14]),
        shoes=_tinted(rng, _SHOES),
        bag=_choose(rng, ("none", "backpack", "shoulder", "carrier"), (48, 22, 18, 12)),
        bag_colour=_tinted(rng, _CLOTH),
        arm_swing=float(rng.choice([1.0, 0.8, 0.6, 0.15])),
        stride=float(rng.uniform(0.9, 1.1)),
        seed=int(rng.integers(2**31)),
    )


def _choose(rng: np.random.Generator, choices: tuple[_T, ...], weights: tuple[float, ...]) -> _T:
    return choices[int(rng.choice(len(choices), p=np.array(weights) / sum(weights)))]


def _tinted(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    base = np.array(palette[int(rng.integers(len(palette)))])
    value = np.clip(base * rng.uniform(0.85, 1.15) + rng.normal(0, 0.02, 3), 0.03, 0.96)
    return (float(value[0]), float(value[1]), float(value[2]))

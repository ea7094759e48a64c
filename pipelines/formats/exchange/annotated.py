"""People that were annotated in another tool, as its readers return them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.metrics.rows import BoxRows

_PEOPLE = frozenset({"person", "pedestrian", "people", "persons", "pedestrians", "human"})

Refuse = Callable[[str, str], None]  # called with the kind of an error, and what is wrong


class Picture(NamedTuple):
    """A frame: its 0-based number, the name of its file, if there is one, and its size."""

    frame: int
    file: str
    width: float
    height: float


@dataclass(frozen=True)
class AnnotatedVideo:
    """Boxes of a video.

    Attributes:
        name: Name of the video; empty if the file does not say.
        pictures: Its frames, in order; of a video file those with boxes only.
        rows: All boxes with their ids; -1 for none.
        is_person: `(n,)` whether it is a person, not something else.
        is_ignored: `(n,)` whether it is neither person nor background, such as a crowd.
    """

    name: str
    pictures: list[Picture]
    rows: BoxRows
    is_person: NDArray[np.bool_]
    is_ignored: NDArray[np.bool_]


def people_among(names: set[str]) -> frozenset[str]:
    """Those of the class names that mean people; the only class is people under any name.

    >>> sorted(people_among({"car", "Pedestrian"})), sorted(people_among({"walker"}))
    (['Pedestrian'], ['walker'])
    """
    if len(names) == 1:
        return frozenset(names)
    return frozenset(name for name in names if name.strip().casefold() in _PEOPLE)


def raise_refusal(where: str) -> Refuse:
    """A function that raises what is wrong with a file, as ValueError in one line."""

    def refuse(kind: str, detail: str) -> None:
        raise ValueError(f"{where}: {kind}: {detail}")

    return refuse

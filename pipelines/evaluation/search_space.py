"""Settings to try when tuning: ranges and lists of values, and their grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jde_ray.pipelines.errors import ExitCode, RunError

Setting = bool | int | float | str
Settings = dict[str, Setting]

MOST_TRIALS = 10_000
_GRID_STEPS = 5  # default number of values per range


@dataclass(frozen=True)
class Span:
    """Range of a setting, including both ends; integers if both ends are.

    Attributes:
        low: Smallest value.
        high: Largest value.
        steps: Number of evenly spaced values in a grid.
    """

    low: float
    high: float
    steps: int = _GRID_STEPS

    @property
    def is_whole(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> list[Setting]:
        """Values for a grid, ascending."""
        spaced = np.linspace(self.low, self.high, self.steps)
        if self.is_whole:
            return sorted({round(value) for value in spaced})
        return [round(float(value), 6) for value in spaced]


Space = Mapping[str, Span | list[Setting]]  # setting of the association -> values to try


def listed_values(values: Span | list[Setting]) -> list[Setting]:
    """The values that a grid tries."""
    return values.values() if isinstance(values, Span) else values


def grid(space: Space) -> list[Settings]:
    """All combinations of the values of a space.

    Raises:
        RunError: If there are more than `MOST_TRIALS`.
    """
    trials: list[Settings] = [{}]
    for name, values in space.items():
        listed = listed_values(values)
        if len(trials) * len(listed) > MOST_TRIALS:
            raise RunError(
                f"param: got more than {MOST_TRIALS} combinations, expected at most as many",
                ExitCode.REFUSED,
            )
        trials = [{**trial, name: value} for trial in trials for value in listed]
    return trials


def ends(space: Space) -> list[Settings]:
    """Few settings that have every listed value, and both ends of every range.

    If both ends of a range are valid, all in between are.
    """
    lists: list[tuple[str, list[Setting]]] = []
    for name, values in space.items():
        listed = listed_values(values)
        lists.append((name, [listed[0], listed[-1]] if isinstance(values, Span) else listed))
    most = max((len(listed) for _, listed in lists), default=1)
    return [
        {name: listed[min(number, len(listed) - 1)] for name, listed in lists}
        for number in range(most)
    ]

"""Names and shapes of motion networks. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from jde_ray.models.tracking.autoregression import INPUTS, MEMORY


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """One network.

    Attributes:
        name: Name of the configuration.
        size: Inputs it remembers, and numbers of an input.
    """

    name: str
    size: tuple[int, int] = (MEMORY, INPUTS)


CONFIGURATIONS = {"ran": MotionConfig(name="ran")}

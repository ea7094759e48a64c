"""Judges a dataflow without progress: only slow, stuck, or without the machines that it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking.pools import Pools

_STARTING_S = 300.0  # on a busy machine a worker takes minutes to import its network


class StalledError(Exception):
    """The dataflow is stuck; with pools of another size it may continue."""


@dataclass(frozen=True)
class Stage:
    """The state of one stage of the dataflow.

    Attributes:
        name: The stage's name in messages.
        tasks: Tasks that run or wait for resources.
        rows_waiting: Rows queued before the stage.
        actors: Number of actors that run, and that wait for resources; None for a stage of tasks.
    """

    name: str
    tasks: int
    rows_waiting: int
    actors: tuple[int, int] | None = None

    def __str__(self) -> str:
        parts = [f"tasks: {self.tasks}", f"rows before it: {self.rows_waiting}"]
        if self.actors is not None:
            running, waiting = self.actors
            parts.insert(0, f"workers: {running} run, {waiting} wait for a place")
        return f"{self.name} ({', '.join(parts)})"


@dataclass(frozen=True)
class Machines:
    """`CPU` and `GPU` of the cluster: total, and free."""

    total: Mapping[str, float]
    free: Mapping[str, float]

    def __str__(self) -> str:
        kinds = [kind for kind in ("CPU", "GPU") if self.total.get(kind) or kind == "CPU"]
        each = [f"{self.free.get(k, 0):g} of {self.total.get(k, 0):g} {k}s free" for k in kinds]
        return f"Ray has {', '.join(each)}"


def judge(
    pools: Pools,
    before: Mapping[str, float],
    now: Machines,
    stages: list[Stage],
    silent_s: float = math.inf,
) -> Exception | None:
    """Decide whether a dataflow without progress is stuck.

    Args:
        pools: The pools of the attempt.
        before: Total `CPU` and `GPU` when the pools were sized.
        now: `CPU` and `GPU` now.
        stages: The stages that have not ended.
        silent_s: Seconds without a receipt.

    Returns:
        RunError if no worker can run; StalledError if pools of another size may help;
        None if the dataflow may only be slow, or if others hold the machines.
    """
    kinds = ("CPU", "GPU") if pools.detector_gpus else ("CPU",)
    lost = [kind for kind in kinds if now.total.get(kind, 0) < before.get(kind, 0) - 1e-6]
    for kind in lost:
        if now.total.get(kind, 0) <= 0:
            return RunError(
                f"nothing can move: Ray has lost its last {kind}; run the same command"
                " once there is one",
                ExitCode.INTERNAL,
            )
    if lost:
        each = (f"{now.total.get(kind, 0):g} of {before[kind]:g} {kind}s" for kind in lost)
        return StalledError(f"machines were lost, {' and '.join(each)} are left")
    if silent_s < _STARTING_S:  # a worker that starts on its resources looks the same
        return None
    starved = any(stage.actors and not stage.actors[0] and stage.actors[1] for stage in stages)
    holders = sum(stage.tasks for stage in stages if stage.actors is None)
    if starved and holders and now.free.get("CPU", 0) < pools.detector_cpus:
        return StalledError("decoders hold the places that detectors need to start again")
    return None

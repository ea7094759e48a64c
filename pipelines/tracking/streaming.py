"""How Ray Data runs a dataset of chunks: its settings, and the hooks of the watch over it.

Ray Data's loop calls the hooks several times a second in its own thread. No other module reaches
into its internals.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import ray
from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.execution_callback import ExecutionCallback

from jde_ray.pipelines.tracking.stall_verdict import Stage

_WORK = {  # of a stage, by a part of the name that Ray Data gives it
    "cut_rows": "cutting",
    "decode_rows": "decoding",
    "decode_labelled": "decoding",
    "read_rows": "reading",
    "DetectorStage": "detection",
    "KnownBoxStage": "detection",
}


class Watcher(Protocol):
    """What the hooks tell and ask the watch; `pipelines.tracking.stalls.Watch` is one."""

    executor: Callable[[], Any]
    verdict: Exception | None
    most_decoders: int | None


def streaming_context() -> DataContext:
    """Settings of a dataset whose rows are chunks: watched, and silent in a terminal."""
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # block = row: only rows are atomic in Ray Data
    context.enable_progress_bars = False  # its variable is read when ray.data is imported
    context.custom_execution_callback_classes = [Steps]
    # a pool between limits keeps the detectors that it has: one that is let go in a lull would have
    # to load its network again
    context.autoscaling_config = replace(
        context.autoscaling_config, actor_pool_util_downscaling_threshold=-1.0
    )
    context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, DetectorPlaces]
    )
    return context


class Steps(ExecutionCallback):
    """Ray Data's callback, which passes the running dataset to the watch and ends it if told to."""

    watch: Watcher | None = None  # of the attempt that runs in this process

    def before_execution_starts(self, executor: Any) -> None:
        """Pass the executor to the watch."""
        if Steps.watch is not None:
            Steps.watch.executor = weakref.ref(executor)

    def on_execution_step(self, executor: Any) -> None:
        """End the execution if the watch has a verdict.

        Raises:
            StalledError: The verdict of the watch, to the reader of the dataset.
            RunError: The same, if no other pools would help.
        """
        if Steps.watch is not None and Steps.watch.verdict is not None:
            _end_detectors(executor)
            raise Steps.watch.verdict


def _end_detectors(executor: Any) -> None:
    """Kill the detectors of a dataset that has to end.

    Ray Data lets them end their rows first. Rows that were lost with a machine never come, and the
    next attempt would wait for the CPUs.
    """
    for operator in executor._topology:
        for pool in operator.get_autoscaling_actor_pools():
            for actor in (*pool._running_actors, *pool._pending_actors.values()):
                ray.kill(actor)


class DetectorPlaces(BackpressurePolicy):
    """Ray Data's policy by which decoders leave the detectors their places on a changing cluster.

    Ray Data itself learns of a lost machine only after 20 s. Until then it would fill the places of
    detectors that have to start again with decoders, which wait for detectors.
    """

    def can_add_input(self, op: Any) -> bool:
        """Whether a stage may start one more task."""
        watch = Steps.watch
        if watch is None or watch.most_decoders is None or not _is_decoding(op.name):
            return True
        return bool(op.num_active_tasks() < watch.most_decoders)


def _is_decoding(name: str) -> bool:
    return any(part in name and work in ("cutting", "decoding") for part, work in _WORK.items())


def unfinished_stages(executor: Any) -> list[Stage]:
    """The unfinished stages of a running dataset; numbers may be from different moments."""
    found = []
    topology: Mapping[Any, Any] = getattr(executor, "_topology", None) or {}
    for operator, state in list(topology.items()):
        if operator.has_completed():
            continue
        names = [name for part, name in _WORK.items() if part in operator.name]
        if not names:
            continue
        actors = None
        info = operator.get_actor_info()  # of a stage of tasks all are 0
        if info.running + info.pending + info.restarting:
            actors = (info.running, info.pending + info.restarting)
        tasks, rows = operator.num_active_tasks(), state.total_enqueued_input_blocks()
        found.append(Stage(" and ".join(names), tasks, rows, actors))
    return found

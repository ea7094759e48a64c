"""Reports a dataflow without progress, and ends one that is stuck.

Ray waits forever for resources that were lost with a node: restarted detectors wait for CPUs that
decoders hold, which wait for detectors. Ray Data's loop calls `Steps` several times a second in its
own thread; `Watch` checks the clock in another thread, since that loop may itself be waiting.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.execution_callback import ExecutionCallback

from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking.pools import Pools

logger = logging.getLogger(__name__)

FIRST_WORD_S = 60.0
_MOST_SILENCE_S = 900.0
_STARTING_S = 300.0  # on a busy machine a worker takes minutes to import its network
_LOOK_S = 1.0
_COUNT_S = 5.0  # between two counts of the machines of a run that follows its cluster
_ANSWER_S = 10.0  # for Ray to report its resources
_WORK = {
    "cut_rows": "cutting",
    "decode_rows": "decoding",
    "decode_labelled": "decoding",
    "read_rows": "reading",
    "DetectorStage": "detection",
    "KnownBoxStage": "detection",
}


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


class Steps(ExecutionCallback):
    """Ray Data's callback, which passes the running dataset to the watch and ends it if told to."""

    watch: Watch | None = None  # of the attempt that runs in this process

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


class Places(BackpressurePolicy):
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
    return any(part in name for part in ("cut_rows", "decode_rows", "decode_labelled"))


class Watch:
    """While entered, reports after a minute without progress which stages wait for what.

    Args:
        pools: The pools of the attempt.
        say: Called with each line of text.
        clock: Returns seconds.

    Attributes:
        verdict: Why the dataset has to end; None while it may continue.
        doing: The current work, for messages while no dataset runs.
        most_decoders: Decode tasks that leave detectors their places on the cluster as it is; None
            if the pools do not follow it.
    """

    def __init__(
        self,
        pools: Pools,
        say: Callable[[str], None] = logger.warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.executor: Callable[[], Any] = lambda: None
        self.verdict: Exception | None = None
        self.doing = "the first workers start"
        self._pools, self._say, self._clock = pools, say, clock
        self._before = dict(_machines().total)
        self.most_decoders = pools.decoders_on(self._before) if pools.follow else None
        self._counted = self._clock()
        self._last = self._clock()
        self._longest, self._has_moved = 0.0, False
        self._silence = FIRST_WORD_S  # until the next report
        self._is_over = threading.Event()
        self._ask = ThreadPoolExecutor(1, thread_name_prefix="jde-machines")
        self._thread = threading.Thread(target=self._run, name="jde-watch", daemon=True)

    def __enter__(self) -> Self:
        Steps.watch = self
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._ask.shutdown(wait=False, cancel_futures=True)
        if Steps.watch is self:
            Steps.watch = None

    def moved(self, doing: str = "") -> None:
        """Record progress.

        Args:
            doing: The work that follows, for messages; empty for no change.
        """
        now = self._clock()
        if self._has_moved:  # the first rows waited for workers to start
            self._longest = max(self._longest, now - self._last)
        self._has_moved = True
        self._last, self._silence = now, FIRST_WORD_S
        self.doing = doing or self.doing

    @property
    def silent_s(self) -> float:
        """Seconds since the last progress."""
        return self._clock() - self._last

    def stages(self) -> list[Stage]:
        """The stages of the running dataset that have not ended."""
        return _stages(self.executor())

    def look(self) -> None:
        """Report and judge, if a report is due."""
        silent = self._clock() - self._last
        if silent < self._silence or self._is_over.is_set():
            return
        self._silence = min(2 * self._silence, self._silence + _MOST_SILENCE_S)
        stages, machines = self.stages(), self._machines()
        parts = [str(stage) for stage in stages] or [self.doing]
        parts.append("Ray does not answer" if machines is None else str(machines))
        line = f"nothing has moved for {silent:.0f} s: {'; '.join(parts)}"
        verdict = None
        # a network that takes a minute for a row is slow, not stuck
        if machines is not None and stages and silent >= 2 * self._longest:
            verdict = judge(self._pools, self._before, machines, stages, silent)
        if isinstance(verdict, StalledError):
            line += f"; {verdict}: the rest is planned again"
        self._say(line)
        self.verdict = verdict

    def count(self) -> None:
        """Count the machines of a run that follows its cluster.

        The loss of one that has joined is a loss like that of the first ones.
        """
        if not self._pools.follow or self._clock() - self._counted < _COUNT_S:
            return
        self._counted = self._clock()
        machines = self._machines()
        if machines is None:
            return
        self.most_decoders = self._pools.decoders_on(machines.total)
        for kind, total in machines.total.items():
            self._before[kind] = max(total, self._before.get(kind, 0.0))

    def _run(self) -> None:
        while not self._is_over.wait(_LOOK_S):
            try:
                self.count()
                self.look()
            except Exception:  # a failing watch must not end the run
                logger.exception("the watch over the dataflow failed")
                return

    def _machines(self) -> Machines | None:
        try:
            return self._ask.submit(_machines).result(timeout=_ANSWER_S)
        except Exception as error:  # noqa: BLE001  any error means that Ray did not answer
            logger.debug("Ray does not tell its resources: %s", error)
            return None


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
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, Places]
    )
    return context


def _machines() -> Machines:
    total: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: Mapping[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return Machines(total, free)


def _stages(executor: Any) -> list[Stage]:
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

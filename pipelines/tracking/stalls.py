"""Reports a dataflow without progress, and ends one that is stuck.

Ray waits forever for resources that were lost with a node: restarted detectors wait for CPUs that
decoders hold, which wait for detectors. The watch has a thread of its own, since Ray Data's loop
may itself be waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import ray

from jde_ray.pipelines.tracking.pools import Pools
from jde_ray.pipelines.tracking.stall_verdict import Machines, Stage, StalledError, judge
from jde_ray.pipelines.tracking.streaming import Steps, unfinished_stages

logger = logging.getLogger(__name__)

FIRST_WORD_S = 60.0
_MOST_SILENCE_S = 900.0
_LOOK_S = 1.0
_COUNT_S = 5.0  # between two counts of the machines of a run that follows its cluster
_ANSWER_S = 10.0  # for Ray to report its resources


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
        return unfinished_stages(self.executor())

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


def _machines() -> Machines:
    total: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: Mapping[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return Machines(total, free)

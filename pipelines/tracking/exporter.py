"""Exports the counts and states of a run through Ray, whose nodes serve them to Prometheus.

All come from the driver, every few seconds and in a thread of its own: the workers send the
receipts that they send anyway, and the association shards are asked for their sums. So no count is
lost with a worker, whose metrics Ray collects every ten seconds, and rows do not wait for metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from jde_ray.pipelines.config import VERSION
from jde_ray.pipelines.structures import VideoOutcome
from jde_ray.pipelines.tracking.metrics import COUNTERS, GAUGES, Sums, add, of_outcomes
from jde_ray.pipelines.tracking.stall_verdict import Stage
from jde_ray.pipelines.tracking.stalls import Watch
from jde_ray.pipelines.tracking.tally import Tally

logger = logging.getLogger(__name__)

_EVERY_S = 5.0  # Ray itself sends metrics every 10 s
_ANSWER_S = 10.0  # for the association shards
_PATIENCE_S = 0.5  # until it is seen that the attempt is over
_STAGES = {"cutting": "cut", "decoding": "decode", "reading": "read", "detection": "detect"}


class Exporter:
    """The metrics of one run; made when Ray has been joined.

    Args:
        out: Address of OUT, a label of every metric.
        run_id: Id of the run in `summary.json`, the other label.
        tally: Frames and seconds of the run.
    """

    def __init__(self, out: str, run_id: str, tally: Tally) -> None:
        self._run = {"out": out, "run": run_id}
        self._tally = tally
        self._ended: Sums = defaultdict(float)  # of the videos that ended in earlier attempts
        self._shards: dict[int, Sums] = {}  # last answer of each shard of this attempt
        self._attempts = 0
        self._open_videos = 0
        self._exported: Sums = defaultdict(float)
        self._shown: set[tuple[str, str]] = set()  # gauges that were set, by name and label
        self._counters = {name: _make("Counter", name, *what) for name, what in COUNTERS.items()}
        self._gauges = {name: _make("Gauge", name, *what) for name, what in GAUGES.items()}

    @contextmanager
    def exporting(
        self, shards: Sequence[Any], watch: Watch, outcomes: Mapping[str, VideoOutcome]
    ) -> Iterator[None]:
        """While entered, export every few seconds; at the end the sums over all ended videos.

        Args:
            shards: The association shards of the attempt, as actors.
            watch: Knows the stages, and when something last moved.
            outcomes: Outcomes of the videos of all attempts, complete when the block ends.
        """
        self._attempts += 1
        is_over = threading.Event()

        def run() -> None:
            while not is_over.wait(_EVERY_S):
                try:
                    self._ask(shards, is_over)
                    self.export(watch.stages(), watch.silent_s)
                except Exception as error:  # noqa: BLE001  no run ends over its metrics
                    logger.debug("the metrics of a run were not exported: %s", error)

        thread = threading.Thread(target=run, name="jde-metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()  # before Ray is left, which a late call would start again
            self.settle(outcomes.values())

    def settle(self, outcomes: Iterable[VideoOutcome]) -> None:
        """Export the sums over all videos that have ended, after an attempt."""
        self._shards.clear()
        self._ended = of_outcomes(outcomes)
        self._open_videos = 0
        self.export([], 0.0)

    def close(self) -> None:
        """Show no state any more; the sums stay."""
        for name, label in self._shown:
            self._set(name, label, 0.0)

    def export(self, stages: Sequence[Stage], silent_s: float) -> None:
        """Hand the sums and the states to Ray."""
        for key, total in self._sums().items():
            if total > self._exported[key]:
                name, label = key
                tags = self._tags(COUNTERS, name, label)
                self._counters[name].inc(total - self._exported[key], tags)
                self._exported[key] = total
        states = self._states(stages, silent_s)
        for name, label in self._shown - states.keys():
            self._set(name, label, 0.0)
        for (name, label), value in states.items():
            self._set(name, label, value)
        self._shown |= states.keys()

    def _ask(self, shards: Sequence[Any], is_over: threading.Event) -> None:
        """Ask the shards for their sums; one that does not answer keeps those of the last time."""
        calls = [shard.stats.remote() for shard in shards]
        waiting, end = calls, time.monotonic() + _ANSWER_S
        while waiting and time.monotonic() < end and not is_over.is_set():
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_PATIENCE_S)
        num_open = 0
        for place, call in enumerate(calls):
            if call not in waiting:
                try:
                    stats = ray.get(call)
                except ray.exceptions.RayError:
                    continue
                self._shards[place] = stats.sums
                num_open += stats.open_videos
        self._open_videos = num_open

    def _sums(self) -> Sums:
        sums: Sums = defaultdict(float)
        for one in (self._ended, self._tally.sums(), *self._shards.values()):
            add(sums, one)
        sums["jde_attempts", ""] = self._attempts
        return sums

    def _states(self, stages: Sequence[Stage], silent_s: float) -> dict[tuple[str, str], float]:
        left = self._tally.frames_left
        states: dict[tuple[str, str], float] = {
            ("jde_run_info", VERSION): 1,
            ("jde_videos_planned", ""): self._tally.num_videos,
            ("jde_videos_open", ""): self._open_videos,
            ("jde_silent_seconds", ""): silent_s,
        }
        if left is not None:
            states["jde_frames_left", ""] = left
        for stage in stages:
            name = _STAGES.get(stage.name, stage.name)
            states["jde_queue_rows", name] = stage.rows_waiting
            states["jde_tasks", name] = stage.tasks
            if stage.actors is not None:
                running, waiting = stage.actors
                states["jde_detectors", ""] = running
                states["jde_detectors_wanted", ""] = running + waiting
        return states

    def _set(self, name: str, label: str, value: float) -> None:
        self._gauges[name].set(value, self._tags(GAUGES, name, label))

    def _tags(self, known: Mapping[str, tuple[str, str]], name: str, label: str) -> dict[str, str]:
        kind = known[name][0]
        return self._run | ({kind: label} if kind else {})


def _make(kind: str, name: str, label: str, text: str) -> Any:
    from ray.util import metrics

    keys = ("out", "run", label) if label else ("out", "run")
    return getattr(metrics, kind)(name, text, tag_keys=keys)

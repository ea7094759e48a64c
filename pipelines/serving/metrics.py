"""Counts and times of the service for Prometheus, summed over its replicas.

A replica sends its changes to the snapshot actor about once a second, so that the sums outlive it.
Gauges are those of the ingress that answers, beside the limits that it enforces.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric

from jde_ray.pipelines.config import VERSION

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BUCKETS = (*(f"{bound:g}" for bound in BOUNDS_S), "+Inf")

Key = tuple[str, str, str]  # (name, label's value or "", second label's value or "")
Changes = dict[Key, float]

# name -> (labels, help)
COUNTERS: dict[str, tuple[tuple[str, ...], str]] = {
    "jde_requests": (("call", "status"), "Calls by HTTP status; a frame on a WebSocket is one"),
    "jde_frames": (("call",), "Frames answered"),
    "jde_detections": ((), "People found in them"),
    "jde_tracks": ((), "Tracked boxes answered"),
    "jde_refusals": (("error",), "Calls refused, by cause"),
    "jde_retries": (("stage",), "Second tries inside the service, after a replica was lost"),
}
# counted by each session since its start, and therefore labelled with its number
SESSION_COUNTERS: dict[str, str] = {
    "jde_streams_resumed": "Streams read from a snapshot",
    "jde_streams_expired": "Streams that ended because they were idle",
    "jde_snapshots_failed": "Snapshots that could not be kept",
}
GAUGES: dict[str, str] = {
    "jde_streams": "Open streams, of all sessions",
    "jde_detectors": "Detectors that run; left out where Ray Serve's controller does not answer",
    "jde_detectors_wanted": "Detectors that should run at least",
    "jde_frames_running": "Frames on their way through the detectors, in the ingress asked",
    "jde_frames_running_limit": "Most of them at once",
    "jde_frames_waiting": "Frames waiting behind them, in the ingress asked",
    "jde_frames_waiting_limit": "Frames of calls that may wait, per token; sockets have no limit",
    "jde_bodies_arriving": "Bodies being read, in the ingress asked",
    "jde_bodies_arriving_limit": "Most of them at once",
    "jde_image_bytes": "Bytes of images that have arrived unanswered, in the ingress asked",
    "jde_image_bytes_limit": "Bytes above which calls are refused and sockets are not read",
    "jde_sockets": "Open WebSockets, in the ingress asked",
    "jde_sockets_limit": "Most of them at once",
}
_CALLS = "jde_call_seconds"
_STAGES = "jde_stage_seconds"
_CALLS_HELP = "Seconds by call and status; of a WebSocket, how long it was open"
_STAGES_HELP = "Seconds by stage: body, decode, wait, detect, associate, and the whole call"


class Metrics:
    """Sums by name and labels; `take` returns the changes since the last time."""

    def __init__(self) -> None:
        self._sums: defaultdict[Key, float] = defaultdict(float)

    def count(self, name: str, first: str = "", second: str = "", number: float = 1) -> None:
        """Add to a counter of `COUNTERS`."""
        self._sums[name, first, second] += number

    def observe(self, stage: str, seconds: float) -> None:
        """Record how long a stage took."""
        bucket = _BUCKETS[bisect_left(BOUNDS_S, seconds)]
        self._sums[_STAGES, stage, bucket] += 1
        self._sums[_STAGES, stage, "sum"] += seconds

    def observe_call(self, call: str, status: str, seconds: float) -> None:
        """Record how long a call took."""
        label = f"{call} {status}"
        self._sums[_CALLS, label, _BUCKETS[bisect_left(BOUNDS_S, seconds)]] += 1
        self._sums[_CALLS, label, "sum"] += seconds

    def take(self) -> Changes:
        """Return the sums so far, and start again at 0."""
        changes = dict(self._sums)
        self._sums.clear()
        return changes

    def add(self, changes: Mapping[Key, float]) -> None:
        """Add the changes of another replica."""
        for key, value in changes.items():
            self._sums[key] += value

    def total(self, name: str, first: str | None = None) -> float:
        """Sum of a counter, over all labels or those with this first one."""
        return sum(
            value
            for (known, label, _), value in self._sums.items()
            if known == name and first in (None, label)
        )

    def render(
        self,
        gauges: Mapping[str, float | None],
        sessions: Sequence[Mapping[str, float]] = (),
        model: str = "",
    ) -> bytes:
        """Prometheus text (version 0.0.4) of the sums, of these values, and of this process.

        Args:
            gauges: Values of `GAUGES`, by name; those that are None or missing are left out.
            sessions: Values of `SESSION_COUNTERS` of each session.
            model: Version of the model that answers.
        """
        registry = CollectorRegistry()
        registry.register(_Families(dict(self._sums), gauges, sessions, model))
        ProcessCollector(registry=registry)
        return generate_latest(registry)


class _Families:
    """The collector interface of prometheus_client."""

    def __init__(
        self,
        sums: Changes,
        gauges: Mapping[str, float | None],
        sessions: Sequence[Mapping[str, float]],
        model: str,
    ) -> None:
        self._sums, self._gauges, self._sessions, self._model = sums, gauges, sessions, model

    def collect(self) -> Iterator[Metric]:
        for name, (labels, text) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            if not labels:
                counter.add_metric((), self._sums.get((name, "", ""), 0.0))
            for (known, *values), value in sorted(self._sums.items()):
                if labels and known == name:
                    counter.add_metric(values[: len(labels)], value)
            yield counter
        yield self._histogram(_STAGES, _STAGES_HELP, ("stage",))
        yield self._histogram(_CALLS, _CALLS_HELP, ("call", "status"))
        for name, text in SESSION_COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=("session",))
            for number, values_ in enumerate(self._sessions):
                counter.add_metric((str(number),), values_.get(name, 0.0))
            yield counter
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=self._gauges.get(name))
        facts = {
            "version": VERSION,
            "model": self._model,
            "ray": version("ray"),
            "python": platform.python_version(),
        }
        yield InfoMetricFamily("jde", "Always 1; the labels say what answers", value=facts)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Metric:
        """A histogram of sums whose label holds the values of `labels`, separated by blanks."""
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for label in sorted({key[1] for key in self._sums if key[0] == name}):
            below, buckets = 0.0, []
            for bucket in _BUCKETS:
                below += self._sums.get((name, label, bucket), 0.0)
                buckets.append((bucket, below))
            histogram.add_metric(label.split(), buckets, self._sums.get((name, label, "sum"), 0.0))
        return histogram

"""Samples the memory of a process and all its descendants."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

if TYPE_CHECKING:
    from jde_ray.pipelines.tracking.tally import Progress
_SAMPLE_S = 5.0
MIB = 1 << 20


class Memory:
    """Resident memory of this process and its Ray workers, sampled while something runs."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._done: list[tuple[float, Progress]] = []
        self._tenth = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def note(self, progress: Progress) -> None:
        """Record progress; print a line to stderr after every tenth of the videos."""
        self._done.append((time.perf_counter(), progress))
        tenth = 10 * progress.videos_done // max(progress.videos, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            driver = sum(_resident(os.getpid())) / MIB
            done, seconds = progress.videos_done, progress.seconds
            typer.echo(f"{done} videos in {seconds:.0f} s, driver {driver:.0f} MiB", err=True)

    def stop(self) -> None:
        """Stop sampling."""
        self._is_over.set()
        self._thread.join()

    def mean(self, start: float, stop: float) -> dict[str, float]:
        """Mean MiB by kind of process, between two fractions of the working time."""
        begin, end = self._span()
        low, high = (begin + share * (end - begin) for share in (start, stop))
        chosen = [used for at, used in self._samples if low <= at <= high]
        if not chosen:  # a run shorter than the time between samples
            chosen = [min(self._samples, key=lambda sample: abs(sample[0] - low))[1]]
        return {kind: sum(used[kind] for used in chosen) / len(chosen) for kind in chosen[0]}

    def steady_rate(self) -> float:
        """Videos per second between the first and the last receipt."""
        (begin, first), (end, last) = self._done[0], self._done[-1]
        return (last.videos_done - first.videos_done) / max(end - begin, 1e-9)

    def rates(self, kind: str) -> list[float]:
        """Videos (`videos_done`) or `frames` per second, in each tenth of the total."""
        times = [at for at, _ in self._done]
        counts = [float(getattr(progress, kind)) for _, progress in self._done]
        borders = np.linspace(counts[0], counts[-1], 11)
        # use the first of several receipts with the same count
        at = np.interp(borders, *_rising(counts, times))
        return [round(float(rate), 1) for rate in np.diff(borders) / np.maximum(np.diff(at), 1e-9)]

    def _span(self) -> tuple[float, float]:
        return (self._done[0][0], self._done[-1][0]) if self._done else (0.0, 0.0)

    def _watch(self) -> None:
        while True:
            self._samples.append((time.perf_counter(), _used()))
            if self._is_over.wait(_SAMPLE_S):
                return


def _rising(counts: list[float], times: list[float]) -> tuple[list[float], list[float]]:
    """Drop the points at which nothing was added."""
    kept = [i for i, count in enumerate(counts) if i == 0 or count > counts[i - 1]]
    return [counts[i] for i in kept], [times[i] for i in kept]


def _used() -> dict[str, float]:
    """Memory in use by kind of process, read from /proc; zeros on systems without it."""
    own = os.getpid()
    used = {"driver": sum(_resident(own)) / MIB, "association": 0.0, "workers": 0.0}
    for process in _descendants(own):
        try:
            title = Path(f"/proc/{process}/cmdline").read_bytes()
            # shared memory is the object store, which has a fixed size
            private = _resident(process)[0] / MIB
        except OSError:  # the process has just ended
            continue
        if title.startswith(b"ray::"):
            used["workers"] += private
        if title.startswith(b"ray::AssociationShard"):
            used["association"] += private
    return used


def _resident(process: int) -> tuple[int, int]:
    """Resident bytes of a process: private and shared."""
    try:
        fields = Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return (int(fields[1]) - int(fields[2])) * page, int(fields[2]) * page


def _descendants(process: int) -> list[int]:
    found, waiting = [], [process]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task")
        for file in tasks.glob("*/children"):
            try:
                children = [int(word) for word in file.read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found

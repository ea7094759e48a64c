"""What a run counts for Prometheus: the names, and the sums behind them.

Ray exports them with `ray_` before the name, and `_total` after that of a counter; every one has
the labels `out` and `run` too. Names are those of the service (`pipelines.serving.metrics`) where
both count the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from jde_ray.pipelines.structures import VideoOutcome

Key = tuple[str, str]  # name of a counter, and the value of its label; empty without one
Sums = defaultdict[Key, float]

# name -> (label, help)
COUNTERS: dict[str, tuple[str, str]] = {
    "jde_frames": ("node", "Frames detected, by machine"),
    "jde_detections": ("", "People found in them"),
    "jde_videos": ("status", "Videos that have ended: done, partial or failed"),
    "jde_videos_failed": ("reason", "Videos that have failed, by reason"),
    "jde_tracks": ("", "Tracks of the videos that have ended"),
    "jde_rows": ("", "Rows of the videos that have ended"),
    "jde_dropped": ("cause", "Rows and detections of these videos that were left out, by cause"),
    "jde_damaged_frames": ("", "Frames of these videos that the decoder concealed"),
    "jde_stage_seconds": ("stage", "Seconds of work, summed over workers, by stage"),
    "jde_attempts": ("", "Times that the unfinished videos were planned"),
}
GAUGES: dict[str, tuple[str, str]] = {
    "jde_run_info": ("version", "1 while the run tracks"),
    "jde_videos_planned": ("", "Videos that this run has to track"),
    "jde_videos_open": ("", "Videos that are being associated"),
    "jde_frames_left": ("", "Frames still to come, by the headers and sizes of the files"),
    "jde_silent_seconds": ("", "Seconds since the last frames were detected"),
    "jde_queue_rows": ("stage", "Rows that wait before a stage"),
    "jde_tasks": ("stage", "Tasks of a stage that run or wait for a place"),
    "jde_detectors": ("", "Detectors that run"),
    "jde_detectors_wanted": ("", "Those, and the ones that wait for a place"),
}


def exported(name: str) -> str:
    """The name that Prometheus sees.

    >>> exported("jde_frames"), exported("jde_queue_rows")
    ('ray_jde_frames_total', 'ray_jde_queue_rows')
    """
    return f"ray_{name}_total" if name in COUNTERS else f"ray_{name}"


def add_outcome(sums: Sums, outcome: VideoOutcome) -> None:
    """Count a video that has ended."""
    counts = outcome.counts
    status = "failed" if outcome.error else "partial" if outcome.partial else "done"
    sums["jde_videos", status] += 1
    if outcome.error:
        sums["jde_videos_failed", str(outcome.error.reason)] += 1
    sums["jde_tracks", ""] += counts.tracks
    sums["jde_rows", ""] += counts.rows
    sums["jde_damaged_frames", ""] += counts.damaged
    for cause, number in counts.dropped.items():
        sums["jde_dropped", cause] += number
    sums["jde_stage_seconds", "associate"] += outcome.seconds


def add(sums: Sums, others: Mapping[Key, float]) -> None:
    """Add other sums."""
    for key, value in others.items():
        sums[key] += value


def of_outcomes(outcomes: Iterable[VideoOutcome]) -> Sums:
    """The sums over videos that have ended."""
    sums: Sums = defaultdict(float)
    for outcome in outcomes:
        add_outcome(sums, outcome)
    return sums

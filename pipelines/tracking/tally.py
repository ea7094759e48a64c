"""Counts the work of a run as receipts of it arrive, and reports how the run gets on."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking.metrics import Sums
from jde_ray.pipelines.tracking.time_left import ExpectedFrames, Pace


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run.

    Attributes:
        videos: Number of videos to track in this run.
        videos_done: Number of them whose last chunk has arrived.
        videos_skipped: Number of videos that earlier runs committed.
        frames: Frames detected so far.
        seconds: Time since the run started.
        seconds_left: Estimate from the rate since the first frames, the headers of the videos that
            were opened and the file sizes of the others; None before there is one.
        frames_left: Frames still to come by that estimate; None before there is one.
        drawn: Videos whose pictures are made so far, and videos that lack some; None while the run
            tracks.
    """

    videos: int
    videos_done: int
    videos_skipped: int
    frames: int
    seconds: float
    seconds_left: float | None = None
    frames_left: int | None = None
    drawn: tuple[int, int] | None = None


class Tally:
    """Work done by a run.

    Args:
        config: Stride and frame limit, for the time left.
        num_skipped: Videos committed by earlier runs, for the progress.
        progress: Called with every receipt.

    Attributes:
        seconds: Seconds of work by stage.
        frames: Frames detected.
        detections: People found in them.
        frames_by_node: The same by the machine of the detector; empty without Ray.
    """

    def __init__(
        self, config: TrackConfig, num_skipped: int, progress: Callable[[Progress], None] | None
    ) -> None:
        self.seconds = {"decode": 0.0, "detect": 0.0}
        self.frames = self.detections = 0
        self.frames_by_node: Counter[str] = Counter()
        self._config, self._num_skipped, self._progress = config, num_skipped, progress
        self._num_videos = 0
        self._arrived: set[str] = set()
        self._expected = ExpectedFrames([], config)
        self._pace = Pace()
        self._started = time.perf_counter()

    def expect(self, videos: Sequence[Video]) -> None:
        """Take note of the videos to track."""
        self._num_videos = len(videos)
        self._expected = ExpectedFrames(videos, self._config)

    def continue_from(self, start_frame: int) -> None:
        """Take note that a video continues from a checkpoint, without its earlier frames."""
        self._expected.continue_from(start_frame)

    def add(self, receipt: Mapping[str, Any]) -> None:
        """Add the work that a receipt tells of, see `wire_format.RECEIPT_SCHEMA`, and report."""
        for stage in self.seconds:
            self.seconds[stage] += receipt[f"{stage}_s"]
        self.frames += receipt["num_frames"]
        self.detections += receipt.get("num_detections", 0)
        if receipt.get("node"):
            self.frames_by_node[receipt["node"]] += receipt["num_frames"]
        self._arrived.update(receipt["arrived"])
        for video_id, num_frames in receipt["promised"]:
            self._expected.learn(video_id, num_frames)
        if self._progress is not None:
            self._progress(self._report())

    @property
    def num_videos(self) -> int:
        """Videos to track."""
        return self._num_videos

    @property
    def frames_left(self) -> int | None:
        """Frames still to come, as in `Progress`."""
        return self._expected.left(self.frames)

    def sums(self) -> Sums:
        """Frames, detections and seconds for Prometheus."""
        sums: Sums = defaultdict(float)
        for node, number in self.frames_by_node.copy().items():
            sums["jde_frames", node] = number
        sums["jde_detections", ""] = self.detections
        for stage, seconds in self.seconds.items():
            sums["jde_stage_seconds", stage] = seconds
        return sums

    def _report(self) -> Progress:
        now = time.perf_counter()
        self._pace.note(now, self.frames)
        left = self._expected.left(self.frames)
        return Progress(
            self._num_videos,
            len(self._arrived),
            self._num_skipped,
            self.frames,
            now - self._started,
            None if left is None else self._pace.seconds_for(left),
            left,
        )

    def report_drawn(self, drawn: int, of: int, seconds: float) -> None:
        """Report of how many videos the pictures are made.

        Args:
            drawn: Videos whose pictures are made.
            of: Videos that lack pictures in this run.
            seconds: Seconds since the first of them was begun.
        """
        if self._progress is not None:
            left = seconds / drawn * (of - drawn) if drawn else None
            report = replace(self._report(), seconds_left=left, frames_left=0, drawn=(drawn, of))
            self._progress(report)

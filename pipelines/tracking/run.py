"""One run over an OUT: the work left to do, the attempts at it, and the summary.

The dataflow, the reference loop and the association of saved detections share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jde_ray.pipelines.cluster import Interrupted, connected, interruptible
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.settings import resolve_settings
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.output.picture_record import check_pictures
from jde_ray.pipelines.output.run_record import open_out, recorded_precision
from jde_ray.pipelines.output.summary import Summary, put_summary, summarize
from jde_ray.pipelines.output.text_names import name_texts
from jde_ray.pipelines.output.work import accept, plan_work
from jde_ray.pipelines.report.page import write_report
from jde_ray.pipelines.sources.discovery import Sources, find_videos
from jde_ray.pipelines.sources.findings import Failure
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking.attempts import Attempts
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.later_outputs import (
    FrameReader,
    Pictures,
    missing,
    render_all,
    write_missing,
)
from jde_ray.pipelines.tracking.packing import take_share
from jde_ray.pipelines.tracking.pools import Pools, size_pools
from jde_ray.pipelines.tracking.tally import Progress, Tally

if TYPE_CHECKING:
    from ray.data import Dataset


@dataclass(frozen=True)
class Attempt:
    """One pass of the dataflow over the unfinished videos.

    Attributes:
        attempt_id: Names its association shards; unique over all runs of a cluster.
        segments: The rest of each unfinished video.
        pools: Pools of workers, sized for the nodes that are alive.
    """

    attempt_id: str
    segments: list[Segment]
    pools: Pools


class Run:
    """The state of one call of `track`.

    Args:
        out: Folder or `s3://` prefix of the run.
        config: Settings that affect rows, fully resolved.
        found: Videos, and sources without a video; the run takes its share of both.
        resources: Share, Ray's address, endpoint of S3.
        outputs: Files to write in addition to the tracks.
        started: Start of the call, by `time.perf_counter`.
        overwrite: Track committed videos again.
        retry_errors: Track failed videos again.
        progress: Called with every receipt.

    Attributes:
        config: Settings that affect rows.
        videos: This run's share.
        store: The opened OUT.
        work: The videos left to do, and those done before.
        pictures: Numbers of videos whose pictures this call made, and those that failed.
        tally: Frames, and seconds by stage.
        attempts: Outcomes of the videos.
        runs_on_ray: Whether workers of Ray do the work.

    Raises:
        RunError: If OUT belongs to another configuration, has pictures of other settings, or
            cannot be written.
    """

    def __init__(
        self,
        out: str,
        config: TrackConfig,
        found: tuple[Sequence[Video], Sequence[Failure]],
        resources: ResourceConfig,
        outputs: OutputConfig,
        *,
        started: float,
        overwrite: bool,
        retry_errors: bool,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.config, self._resources, self._outputs = config, resources, outputs
        self._started, self._overwrite = started, overwrite
        share = resources.share
        self.store = open_out(out, config, resources)
        check_pictures(self.store, outputs)
        self.videos, failures = take_share(*found, share)
        again = {"overwrite": overwrite, "retry_errors": retry_errors}
        self.work = work = plan_work(self.store, self.videos, failures, **again, share=share)
        write_missing(self.store, work.skipped, outputs)
        self.tally = Tally(config, len(work.skipped), progress)
        self.attempts = Attempts(
            self.store, config, outputs, self.tally, resources, stale=work.stale
        )
        self.pictures = Pictures()
        self.runs_on_ray = True
        self._decoder_cpus = 1.0
        self._stopped: ExitCode | None = None

    @property
    def needs_ray(self) -> bool:
        """Whether a video is left to track, or lacks pictures."""
        if self.work.todo:
            return True
        return bool(missing(self.store, self.work.skipped, self._outputs))

    def begin(self) -> None:
        """Remove objects that the run makes obsolete, see `pipelines.output.work.accept`."""
        accept(self.store, self.work, self._resources.share)

    @contextmanager
    def in_process(self) -> Iterator[None]:
        """Track and draw in this process; a signal ends the block, as with `on_ray`."""
        with interruptible():
            self.begin()
            self.attempts.count = 1
            self.tally.expect(self.work.todo)
            self.runs_on_ray = False
            try:
                yield
            except Interrupted as signal:
                self._stopped = signal.exit_code

    @contextmanager
    def on_ray(self, resources: ResourceConfig) -> Iterator[Iterator[Attempt]]:
        """Join Ray and yield the attempts, which end when no video is left.

        A signal ends the block; `finish` then reports the run as interrupted.

        Args:
            resources: Pools, which are fitted to the cluster before every attempt.

        Raises:
            RunError: If there is no Ray at the address, or it lacks a requested GPU.
        """
        with connected(resources.address, resources.metrics_port), interruptible():
            pools = size_pools(resources)
            self._decoder_cpus = pools.decoder_cpus
            self.begin()
            try:
                yield self._plan(resources, pools)
            except Interrupted as signal:
                self._stopped = signal.exit_code
            finally:
                self.attempts.end_metrics()

    def _plan(self, resources: ResourceConfig, pools: Pools) -> Iterator[Attempt]:
        for attempt_id, segments in self.attempts.plan(self.work.todo):
            pools = size_pools(resources, before=pools)
            self._decoder_cpus = pools.decoder_cpus
            yield Attempt(attempt_id, segments, pools)

    def execute(self, attempt: Attempt, receipts: Dataset) -> None:
        """Run the dataflow of an attempt to its end.

        Raises:
            RunError: If rows cannot be written, or no progress is possible.
        """
        self.attempts.run(attempt.attempt_id, attempt.segments, receipts, attempt.pools)

    def draw(self, read_frames: FrameReader) -> None:
        """Make the pictures that committed videos lack, as Ray tasks.

        Raises:
            RunError: If OUT cannot be written, or no video can be drawn.
        """
        began = time.perf_counter()

        def report(drawn: int, of: int) -> None:
            self.tally.report_drawn(drawn, of, time.perf_counter() - began)

        self.pictures = render_all(
            self.store,
            self.videos,
            self.config,
            self._outputs,
            read_frames,
            self._decoder_cpus,
            self._resources,
            report,
        )

    def finish(self) -> Summary:
        """Write the summary; unless the run was interrupted, also the report and names of texts."""
        attempts = self.attempts
        if self._stopped is None:
            name_texts(self.store)
        summary = summarize(
            self.store.uri,
            self.work,
            attempts.outcomes.values(),
            {"wall": time.perf_counter() - self._started, **self.tally.seconds},
            run_id=attempts.run_id,
            passes=attempts.count,
            frames_seen=self.tally.frames,
            frames_by_node=self.tally.frames_by_node,
            videos_drawn=self.pictures.drawn,
            videos_cropped=self.pictures.cropped,
            pictures_failed=self.pictures.failed,
            overwrite=self._overwrite,
            interrupted=self._stopped,
            on_ray=self.runs_on_ray,
        )
        put_summary(self.store, summary, self._resources.share)
        if self._stopped is None and not write_report(self.store, summary):
            return replace(summary, has_report=False)
        return summary


def open_run(
    sources: Sources,
    out: str,
    config: TrackConfig,
    resources: ResourceConfig,
    outputs: OutputConfig,
    components: Components,
    *,
    overwrite: bool,
    retry_errors: bool,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Find the videos, resolve the settings of the network, and open OUT for them.

    The arguments are those of `offline.track`.

    Raises:
        RunError: If the run is refused.
    """
    started = time.perf_counter()
    configure(resources.s3_endpoint)
    found = find_videos(sources)
    return Run(
        out,
        resolve_settings(config, components.build_model, resources, recorded_precision(out)),
        found,
        resources,
        outputs,
        started=started,
        overwrite=overwrite,
        retry_errors=retry_errors,
        progress=progress,
    )

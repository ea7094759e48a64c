"""Attempts at the videos of a run: each one runs the dataflow; unfinished videos are planned again.

An attempt ends early for a video whose association shard died. Each attempt has its own shards, so
that a late call of an earlier attempt reaches none of them.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.output.checkpoints import Checkpoint, belonging, find_states
from jde_ray.pipelines.output.layout import TRACKS_PREFIX, tracks_key
from jde_ray.pipelines.output.result_files import record_failure
from jde_ray.pipelines.output.run_record import committed_outcome, file_metadata
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import deadline_s
from jde_ray.pipelines.structures import Counts, Segment, Video, VideoOutcome
from jde_ray.pipelines.tracking.pools import Pools
from jde_ray.pipelines.tracking.tally import Tally

if TYPE_CHECKING:
    from ray.data import Dataset

    from jde_ray.pipelines.tracking.exporter import Exporter

logger = logging.getLogger(__name__)

MAX_TRIES = 3  # attempts during which a video was being tracked
MAX_IDLE = 3  # attempts in a row that finish no video
BATCH_VIDEOS = 20_000
_ANSWER_S = 60.0  # after the store's deadline; a shard that has not answered by then is lost


class Attempts:
    """State of a run over its attempts: which videos have ended, and how.

    Args:
        store: The opened OUT.
        config: Settings that affect rows.
        outputs: Files to write in addition to the tracks.
        tally: Counts the work of all attempts.
        resources: Frames per chunk and per checkpoint, endpoint of S3.
        stale: Ids of the videos whose earlier results will be replaced.

    Attributes:
        run_id: Id of the run.
        outcomes: Outcomes of the videos, by id.
        count: Attempts begun.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: TrackConfig,
        outputs: OutputConfig,
        tally: Tally,
        resources: ResourceConfig = ResourceConfig(),
        stale: Collection[str] = frozenset(),
    ) -> None:
        self._resources = resources
        self._stale = stale
        self._uncuttable: set[str] = set()
        self._exporter: Exporter | None = None
        self.run_id = uuid.uuid4().hex[:12]
        self.outcomes: dict[str, VideoOutcome] = {}
        self.count = 0
        self._store, self._config, self._outputs = store, config, outputs
        self._tally = tally
        self._trouble: Exception | None = None
        self._halted: str | None = None  # why nothing can be written
        self._is_stuck = False  # the last dataset failed and ended no video
        self._begun: set[str] = set()  # videos that were being tracked in this attempt
        self._tries: Counter[str] = Counter()  # attempts that did not finish a video

    def plan(self, videos: Sequence[Video]) -> Iterator[tuple[str, list[Segment]]]:
        """Yield the attempts to run: an id that no other run has, and the rest of each video.

        A video fails if it was being tracked in `MAX_TRIES` attempts that did not finish it; a
        video that only waited is never blamed.

        Raises:
            RunError: If the dataflow itself keeps failing, or its rows are on another machine.
        """
        from jde_ray.pipelines.tracking.failures import may_succeed_again, to_run_error

        self._tally.expect(videos)
        todo, num_idle = list(videos), 0
        while todo and num_idle < MAX_IDLE:
            if self.count:
                logger.warning(
                    "%d videos are planned again (attempt %d)", len(todo), self.count + 1
                )
            attempt, before = self.count, len(self.outcomes)
            self.count += 1
            self._trouble = None
            yield from self._batches_of_videos(f"{self.run_id}-{attempt}", todo, attempt)
            todo = [video for video in todo if not self._has_ended(video)]
            todo = [video for video in todo if not self._is_given_up(video)]
            num_idle = num_idle + 1 if len(self.outcomes) == before else 0
            if self._is_stuck and not may_succeed_again(self._trouble):
                break
        if todo and self._trouble is not None:
            raise to_run_error(self._trouble) from self._trouble
        if todo:
            raise RunError(
                f"{len(todo)} videos are left: their workers were lost {MAX_IDLE} times before any"
                " video ended; run the same command to continue",
                ExitCode.INTERNAL,
            )
        self._check_store()

    def end_metrics(self) -> None:
        """Export the last sums, with what was found committed or was given up, and no state."""
        if self._exporter is not None:
            self._exporter.settle(self.outcomes.values())
            self._exporter.close()

    def _is_given_up(self, video: Video) -> bool:
        if self._tries[video.video_id] < MAX_TRIES:
            return False
        error = VideoError(Reason.WORKER_DIED, f"not finished in {MAX_TRIES} tries")
        replaces = video.video_id in self._stale
        error = record_failure(self._store, video, error, replaces=replaces)
        self.outcomes[video.video_id] = VideoOutcome(video, Counts(), 0.0, error)
        return True

    def _batches_of_videos(
        self, name: str, todo: Sequence[Video], attempt: int
    ) -> Iterator[tuple[str, list[Segment]]]:
        """Yield an id and segments per batch: whole videos, or what follows their last checkpoint.

        Ray Data keeps statistics of every block in the driver until a dataset ends, so at most
        `BATCH_VIDEOS` videos go through one dataset.
        """
        states = find_states(self._store)
        for start in range(0, len(todo), BATCH_VIDEOS):
            batch = todo[start : start + BATCH_VIDEOS]
            before = len(self.outcomes)
            yield (
                f"{name}-{start}" if start else name,
                [
                    self._remaining(video, attempt, states.get(video.video_id, ()))
                    for video in batch
                ],
            )
            self._is_stuck = self._trouble is not None and len(self.outcomes) == before
            if self._is_stuck:
                return

    def _remaining(self, video: Video, attempt: int, states: Sequence[str]) -> Segment:
        video_id = video.video_id
        may_cut, replaces = video_id not in self._uncuttable, video_id in self._stale
        whole = Segment(
            video,
            attempt,
            may_cut=may_cut,
            replaces=replaces,
            keep_partial=self._outputs.keep_partial,
        )
        if not states:
            return whole
        wanted = belonging(video, self._config.hash(), asdict(self._outputs))
        for key in states:
            try:
                kept = Checkpoint.load(self._store.get(key))
            except (ValueError, FileNotFoundError, PermissionError) as error:
                logger.warning("%s cannot be used: %s", key, error)
                continue
            is_same = kept.belongs == wanted
            if is_same and kept.chunk_frames == self._resources.chunk_frames:
                self._tally.continue_from(kept.next_frame if attempt == 0 else 0)
                logger.info("%s continues at frame %d", video.uri, kept.next_frame)
                start = kept.next_frame
                return replace(whole, start_frame=start, checkpoint=key, version=video.version)
        return whole

    def run(
        self, attempt_id: str, segments: Sequence[Segment], receipts: Dataset, pools: Pools
    ) -> None:
        """Run one attempt: start its association shards, read the receipts, collect the outcomes.

        Raises:
            RunError: If the rows cannot be written, or no progress is possible.
        """
        import ray  # here, as small work runs without it

        from jde_ray.pipelines.tracking.exporter import Exporter
        from jde_ray.pipelines.tracking.failures import last_line
        from jde_ray.pipelines.tracking.stages.start_shards import start_shards
        from jde_ray.pipelines.tracking.stalls import Watch

        out, metadata = self._store.uri, file_metadata(self._config)
        shards = start_shards(
            attempt_id,
            segments,
            pools.num_shards,
            out,
            self._config,
            self._outputs,
            metadata,
            self._resources,
        )
        started = [shard.stats.remote() for shard in shards]
        self._begun.clear()
        uncuttable_before = set(self._uncuttable)
        exporter = self._exporter or Exporter(out, self.run_id, self._tally)
        self._exporter = exporter
        with Watch(pools) as watch, exporter.exporting(shards, watch, self.outcomes):
            try:
                for receipt in receipts.iter_rows():
                    watch.moved()
                    self._count(receipt, shards)
                ray.get(started)  # if a shard never came up, its videos are not to blame
            except RunError:
                raise
            except Exception as error:
                self._trouble = watch.verdict or error
                if isinstance(self._trouble, RunError):
                    raise self._trouble from error
                logger.warning("the dataflow ended early: %s", last_line(self._trouble))
            finally:
                watch.moved("the association shards write their last videos")
                self._collect(shards, {one.video.video_id: one.video for one in segments})
        if self._halted is not None:  # a commit in the background failed
            raise RunError(self._halted, ExitCode.INTERNAL)
        if self._trouble is None:  # otherwise no video is to blame
            # a video whose segments did not fit together was stopped on purpose
            self._tries.update(self._begun - (self._uncuttable - uncuttable_before))

    def _count(self, receipt: dict[str, Any], shards: Sequence[Any]) -> None:
        if receipt["is_halted"]:
            (stats,) = self._ask(shards, "stats")
            halted = [one.halted for one in stats if one is not None]
            raise RunError(next(filter(None, halted), "cannot write"), ExitCode.INTERNAL)
        self._begun.update(receipt["begun"])
        self._tally.add(receipt)

    def _collect(self, shards: Sequence[Any], videos: dict[str, Video]) -> None:
        """Collect the outcomes of the shards, with the run's own texts and the opened files' facts.

        All shards are called before the first is waited for, so that a store that is away delays
        them together.
        """
        import ray

        try:
            ended, stats = self._ask(shards, "finish", "stats")
        finally:
            for shard in shards:
                ray.kill(shard)
        for one in filter(None, stats):
            self._uncuttable |= set(one.uncuttable)
            self._halted = self._halted or one.halted
        for outcome in (outcome for outcomes in ended for outcome in outcomes or ()):
            opened = outcome.video
            video = replace(videos[opened.video_id], start=opened.start, version=opened.version)
            self.outcomes[video.video_id] = replace(outcome, video=video)

    def _ask(self, shards: Sequence[Any], *methods: str) -> list[list[Any]]:
        """Call methods on all shards; returns answers per method, None for a lost shard."""
        import ray

        from jde_ray.pipelines.tracking.failures import answer_of, last_line

        calls = [[getattr(shard, method).remote() for shard in shards] for method in methods]
        last = calls[-1]  # a shard answers in order
        ray.wait(last, num_returns=len(last), timeout=_ANSWER_S + deadline_s())
        answers = [[answer_of(call) for call in each] for each in calls]
        for error in (one for one in answers[-1] if isinstance(one, Exception)):
            logger.warning("an association shard was lost: %s", last_line(error))
        return [[None if isinstance(one, Exception) else one for one in each] for each in answers]

    def _check_store(self) -> None:
        """Check that committed tracks are visible here: all nodes must share one OUT."""
        there = set(self._store.list(TRACKS_PREFIX))
        done = [outcome.video.video_id for outcome in self.outcomes.values() if not outcome.error]
        lost = [video_id for video_id in done if tracks_key(video_id) not in there]
        if lost:
            raise RunError(
                f"out: {self._store.uri} is not the same folder on all nodes ({len(lost)} videos"
                " were written elsewhere); use a shared folder or s3://",
                ExitCode.INTERNAL,
            )

    def _has_ended(self, video: Video) -> bool:
        if video.video_id not in self.outcomes:
            if video.video_id in self._stale:
                return False  # the result in the store may be the earlier one
            outcome = committed_outcome(self._store, video)
            if outcome is None:
                return False
            self.outcomes[video.video_id] = outcome
        return True

"""Passes over the videos: each one runs the dataflow; what did not end is planned again.

A pass ends early for a video whose association actor died. It has actors of its own, so that a
late call of an earlier pass finds nobody.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray.data import Dataset
from ray.exceptions import (
    AuthenticationError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    UserCodeException,
)

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.output.checkpoints import Checkpoint, belonging, find_states
from jde_ray.pipelines.output.layout import TRACKS_PREFIX, tracks_key
from jde_ray.pipelines.output.row_writer import record_failure
from jde_ray.pipelines.output.run_record import committed_outcome, file_metadata
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import deadline_s
from jde_ray.pipelines.structures import Counts, Segment, Video, VideoOutcome
from jde_ray.pipelines.tracking.pools import Pools
from jde_ray.pipelines.tracking.stages.associate import start_shards
from jde_ray.pipelines.tracking.stalls import StalledError, Watch
from jde_ray.pipelines.tracking.time_left import ExpectedFrames

logger = logging.getLogger(__name__)

MAX_TRIES = 3  # of a video
MAX_IDLE = 3  # passes on end that end no video
WAVE_VIDEOS = 20_000
_ANSWER_S = 60.0  # past the store's deadline: an actor that does not answer then is given up


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        videos: To be done in this run.
        videos_done: Of them, those whose last chunk has arrived.
        videos_skipped: Committed by earlier runs.
        frames: Detected so far.
        seconds: Since the run started.
        seconds_left: At the rate since the first frames came, by the headers of the videos that
            were opened and the sizes of the others; None before that is known.
    """

    videos: int
    videos_done: int
    videos_skipped: int
    frames: int
    seconds: float
    seconds_left: float | None = None


class Passes:
    """State of a run over its passes: outcomes of videos, seconds of work, progress.

    Args:
        store: Of the run.
        config: Of the run.
        outputs: What is written beside the tracks.
        num_skipped: Videos committed before, for the progress.
        progress: Called with every receipt.
        resources: Of the run.
        stale: Ids of the videos of which an earlier run left results, to be replaced.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: TrackConfig,
        outputs: OutputConfig,
        num_skipped: int,
        progress: Callable[[Progress], None] | None,
        resources: ResourceConfig = ResourceConfig(),
        stale: Collection[str] = frozenset(),
    ) -> None:
        self._resources = resources
        self._stale = stale
        self._uncuttable: set[str] = set()
        self.outcomes: dict[str, VideoOutcome] = {}
        self.seconds = {"decode": 0.0, "detect": 0.0}
        self.count = 0
        self._store, self._config, self._outputs = store, config, outputs
        self._num_skipped, self._progress = num_skipped, progress
        self._num_videos, self.frames = 0, 0
        self._arrived: set[str] = set()
        self._expected = ExpectedFrames([], config)
        self._first_frames: tuple[float, int] | None = None  # when they came, and how many
        self._started = time.perf_counter()
        self._trouble: Exception | None = None
        self._halted: str | None = None  # why nothing can be written
        self._is_stuck = False  # the last dataset failed and ended no video
        self._begun: set[str] = set()  # videos that were under way in this pass
        self._tries: Counter[str] = Counter()  # passes that a video was under way in, without end

    def plan(self, videos: Sequence[Video]) -> Iterator[tuple[str, list[Segment]]]:
        """Passes to run: a name that no other run has, and what is still to be done.

        A video fails when it was under way in `MAX_TRIES` passes that did not end it; one that
        only waited behind others is never to blame.

        Raises:
            RunError: If the dataflow itself keeps failing, or its rows are on another machine.
        """
        run_id = uuid.uuid4().hex[:12]
        self._num_videos = len(videos)
        self._expected = ExpectedFrames(videos, self._config)
        todo, num_idle = list(videos), 0
        while todo and num_idle < MAX_IDLE:
            if self.count:
                logger.warning("%d videos are planned again (pass %d)", len(todo), self.count + 1)
            attempt, before = self.count, len(self.outcomes)
            self.count += 1
            self._trouble = None
            yield from self._waves(f"{run_id}-{attempt}", todo, attempt)
            todo = [video for video in todo if not self._has_ended(video)]
            todo = [video for video in todo if not self._is_given_up(video)]
            num_idle = num_idle + 1 if len(self.outcomes) == before else 0
            if self._is_stuck and not _may_pass(self._trouble):
                break
        if todo and self._trouble is not None:
            raise _run_error(self._trouble) from self._trouble
        if todo:
            raise RunError(
                f"{len(todo)} videos are left: their workers were lost {MAX_IDLE} times before any"
                " video ended; the same command goes on",
                ExitCode.INTERNAL,
            )
        self._check_store()

    def _is_given_up(self, video: Video) -> bool:
        if self._tries[video.video_id] < MAX_TRIES:
            return False
        error = VideoError(Reason.WORKER_DIED, f"not finished in {MAX_TRIES} tries")
        replaces = video.video_id in self._stale
        error = record_failure(self._store, video, error, replaces=replaces)
        self.outcomes[video.video_id] = VideoOutcome(video, Counts(), 0.0, error)
        return True

    def _waves(
        self, name: str, todo: Sequence[Video], attempt: int
    ) -> Iterator[tuple[str, list[Segment]]]:
        """What is left of each video: all of it, or what follows its last checkpoint.

        Ray Data keeps statistics of every block in the driver until a dataset ends; so many
        videos go through it at a time.
        """
        states = find_states(self._store)
        for start in range(0, len(todo), WAVE_VIDEOS):
            wave = todo[start : start + WAVE_VIDEOS]
            before = len(self.outcomes)
            yield (
                f"{name}-{start}" if start else name,
                [self._rest(video, attempt, states.get(video.video_id, ())) for video in wave],
            )
            self._is_stuck = self._trouble is not None and len(self.outcomes) == before
            if self._is_stuck:
                return

    def _rest(self, video: Video, attempt: int, states: Sequence[str]) -> Segment:
        video_id = video.video_id
        may_cut, replaces = video_id not in self._uncuttable, video_id in self._stale
        whole = Segment(video, attempt, may_cut=may_cut, replaces=replaces)
        wanted = belonging(video, self._config.hash(), asdict(self._outputs))
        for key in states:
            try:
                kept = Checkpoint.load(self._store.get(key))
            except (ValueError, FileNotFoundError, PermissionError) as error:
                logger.warning("%s cannot be used: %s", key, error)
                continue
            is_same = kept.belongs == wanted
            if is_same and kept.chunk_frames == self._resources.chunk_frames:
                self._expected.go_on_from(kept.next_frame if attempt == 0 else 0)
                logger.info("%s goes on from frame %d", video.uri, kept.next_frame)
                start = kept.next_frame
                return replace(whole, start_frame=start, checkpoint=key, version=video.version)
        return whole

    def run(
        self, pass_id: str, segments: Sequence[Segment], receipts: Dataset, pools: Pools
    ) -> None:
        """One pass: start its association actors, read the receipts, collect the outcomes.

        Raises:
            RunError: If the rows cannot be written, or nothing can move any more.
        """
        out, metadata = self._store.uri, file_metadata(self._config)
        shards = start_shards(
            pass_id,
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
        is_parted = set(self._uncuttable)
        with Watch(pools) as watch:
            try:
                for receipt in receipts.iter_rows():
                    watch.moved()
                    self._count(receipt, shards)
                ray.get(started)  # had one never come up, its videos would not be to blame
            except RunError:
                raise
            except Exception as error:
                self._trouble = watch.verdict or error
                if isinstance(self._trouble, RunError):
                    raise self._trouble from error
                logger.warning("the dataflow ended early: %s", _one_line(self._trouble))
            finally:
                watch.moved("the association actors write their last videos")
                self._collect(shards, {one.video.video_id: one.video for one in segments})
        if self._halted is not None:  # a commit that was still on its way
            raise RunError(self._halted, ExitCode.INTERNAL)
        if self._trouble is None:  # else it was no video's fault
            # one whose parts did not fit was stopped on purpose
            self._tries.update(self._begun - (self._uncuttable - is_parted))

    def _count(self, receipt: dict[str, Any], shards: Sequence[Any]) -> None:
        if receipt["is_halted"]:
            (stats,) = self._ask(shards, "stats")
            halted = [one.halted for one in stats if one is not None]
            raise RunError(next(filter(None, halted), "cannot write"), ExitCode.INTERNAL)
        for stage in self.seconds:
            self.seconds[stage] += receipt[f"{stage}_s"]
        self.frames += receipt["num_frames"]
        self._arrived.update(receipt["arrived"])
        for video_id, num_frames in receipt["promised"]:
            self._expected.learn(video_id, num_frames)
        self._begun.update(receipt["begun"])
        if self._progress is not None:
            self._progress(self._report())

    def _report(self) -> Progress:
        now = time.perf_counter()
        if self._first_frames is None and self.frames:
            self._first_frames = now, self.frames
        since, first = self._first_frames or (now, self.frames)
        rate = (self.frames - first) / (now - since) if now > since else 0.0
        left = self._expected.left(self.frames)
        return Progress(
            self._num_videos,
            len(self._arrived),
            self._num_skipped,
            self.frames,
            now - self._started,
            left / rate if left is not None and rate > 0 else None,
        )

    def _collect(self, shards: Sequence[Any], videos: dict[str, Video]) -> None:
        """Outcomes of the shards, with the run's own videos: a copy of each would stay in memory.

        All are asked before the first is waited for: a store that is away holds them up together.
        """
        try:
            ended, stats = self._ask(shards, "finish", "stats")
        finally:
            for shard in shards:
                ray.kill(shard)
        for one in filter(None, stats):
            self._uncuttable |= set(one.uncuttable)
            self._halted = self._halted or one.halted
        for outcome in (outcome for outcomes in ended for outcome in outcomes or ()):
            video_id = outcome.video.video_id
            self.outcomes[video_id] = replace(outcome, video=videos[video_id])

    def _ask(self, shards: Sequence[Any], *methods: str) -> list[list[Any]]:
        """What all shards answer to each of the calls; None for one that is lost."""
        calls = [[getattr(shard, method).remote() for shard in shards] for method in methods]
        last = calls[-1]  # an actor answers in order
        ray.wait(last, num_returns=len(last), timeout=_ANSWER_S + deadline_s())
        answers = [[_answer(call) for call in each] for each in calls]
        for error in (one for one in answers[-1] if isinstance(one, Exception)):
            logger.warning("an association actor was lost: %s", _one_line(error))
        return [[None if isinstance(one, Exception) else one for one in each] for each in answers]

    def _check_store(self) -> None:
        """A folder as OUT must be the same one on all nodes; here is where one would notice."""
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
                return False  # what the store has may be what it had before
            outcome = committed_outcome(self._store, video)
            if outcome is None:
                return False
            self.outcomes[video.video_id] = outcome
        return True


def _answer(call: Any) -> Any:
    """Of a call that was waited for; the error if its actor is lost or says nothing."""
    try:
        return ray.get(call, timeout=0)
    except (RayError, GetTimeoutError) as error:
        return error


def _one_line(error: Exception) -> str:
    """The last line: Ray puts the trace of the worker before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _may_pass(error: BaseException | None) -> bool:
    """Whether a dataflow that failed so may succeed another time: not if our own code raised."""
    if isinstance(error, RayTaskError):
        return _may_pass(error.cause)
    if isinstance(error, RayActorError):
        return not error.actor_init_failed
    never = (UserCodeException, RuntimeEnvSetupError, AuthenticationError)
    # Ray Data asserts things of its workers that do not hold while they die
    passing = (StalledError, RayError, AssertionError, TimeoutError)
    return isinstance(error, passing) and not isinstance(error, never)


def _run_error(error: Exception) -> RunError:
    return RunError(f"the dataflow failed: {_one_line(error)}", ExitCode.INTERNAL)

"""Passes over the videos: each one runs the dataflow; what did not end is planned again.

A pass ends early for a video whose association actor died. It has actors of its own, so that a
late call of an earlier pass finds nobody.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray.data import Dataset
from ray.exceptions import GetTimeoutError, RayError

from pipelines.associate import start_shards
from pipelines.checkpoints import Checkpoint, belonging, find_states
from pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from pipelines.errors import ExitCode, Reason, RunError, VideoError
from pipelines.run_record import committed_outcome, file_metadata
from pipelines.schema import Counts, Segment, Video, VideoOutcome
from pipelines.sink import record_failure, tracks_key
from pipelines.storage import ObjectStore, deadline_s
from pipelines.time_left import ExpectedFrames

logger = logging.getLogger(__name__)

MAX_PASSES = 3
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

    def plan(self, videos: Sequence[Video]) -> Iterator[tuple[str, list[Segment]]]:
        """Passes to run: a name that no other run has, and what is still to be done.

        Raises:
            RunError: If the dataflow itself keeps failing, or its rows are on another machine.
        """
        run_id = uuid.uuid4().hex[:12]
        self._num_videos = len(videos)
        self._expected = ExpectedFrames(videos, self._config)
        todo = list(videos)
        for attempt in range(MAX_PASSES):
            if not todo:
                break
            self.count += 1
            if attempt:
                logger.warning("%d videos are planned again (try %d)", len(todo), attempt + 1)
            self._trouble = None
            yield from self._waves(f"{run_id}-{attempt}", todo, attempt)
            before = len(self.outcomes)
            todo = [video for video in todo if not self._has_ended(video)]
            if self._is_stuck and len(self.outcomes) == before:
                break
        if todo and self._trouble is not None:
            raise _run_error(self._trouble) from self._trouble
        for video in todo:
            error = VideoError(Reason.WORKER_DIED, f"not finished in {MAX_PASSES} tries")
            replaces = video.video_id in self._stale
            error = record_failure(self._store, video, error, replaces=replaces)
            self.outcomes[video.video_id] = VideoOutcome(video, Counts(), 0.0, error)
        self._check_store()

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
        self, pass_id: str, segments: Sequence[Segment], receipts: Dataset, num_shards: int
    ) -> None:
        """One pass: start its association actors, read the receipts, collect the outcomes.

        Raises:
            RunError: If the rows cannot be written.
        """
        out, metadata = self._store.uri, file_metadata(self._config)
        shards = start_shards(
            pass_id,
            segments,
            num_shards,
            out,
            self._config,
            self._outputs,
            metadata,
            self._resources,
        )
        started = [shard.stats.remote() for shard in shards]
        try:
            for receipt in receipts.iter_rows():
                self._count(receipt, shards)
            ray.get(started)  # had one never come up, its videos would not be to blame
        except RunError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ended the dataflow, the rest is planned again
            logger.warning("the dataflow ended early: %s", _one_line(error))
            self._trouble = error
        finally:
            videos = {segment.video.video_id: segment.video for segment in segments}
            for shard in shards:
                self._collect(shard, videos)
        if self._halted is not None:  # a commit that was still on its way
            raise RunError(self._halted, ExitCode.INTERNAL)

    def _count(self, receipt: dict[str, Any], shards: Sequence[Any]) -> None:
        if receipt["is_halted"]:
            halted = [ray.get(shard.stats.remote()).halted for shard in shards]
            raise RunError(next(filter(None, halted), "cannot write"), ExitCode.INTERNAL)
        for stage in self.seconds:
            self.seconds[stage] += receipt[f"{stage}_s"]
        self.frames += receipt["num_frames"]
        self._arrived.update(receipt["arrived"])
        for video_id, num_frames in receipt["promised"]:
            self._expected.learn(video_id, num_frames)
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

    def _collect(self, shard: Any, videos: dict[str, Video]) -> None:
        """Outcomes of a shard, with the run's own videos: a copy of each would stay in memory."""
        try:
            waiting = [shard.finish.remote(), shard.stats.remote()]
            ended, stats = ray.get(waiting, timeout=_ANSWER_S + deadline_s())
            self._uncuttable |= set(stats.uncuttable)
            self._halted = self._halted or stats.halted
            for outcome in ended:
                video_id = outcome.video.video_id
                self.outcomes[video_id] = replace(outcome, video=videos[video_id])
        except (RayError, GetTimeoutError) as error:
            logger.warning("an association actor was lost: %s", _one_line(error))
        ray.kill(shard)

    def _check_store(self) -> None:
        """A folder as OUT must be the same one on all nodes; here is where one would notice."""
        there = set(self._store.list("tracks/"))
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


def _one_line(error: Exception) -> str:
    """The last line: Ray puts the trace of the worker before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _run_error(error: Exception) -> RunError:
    return RunError(f"the dataflow failed: {_one_line(error)}", ExitCode.INTERNAL)

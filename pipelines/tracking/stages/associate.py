"""The association shard: an actor with the sessions of all videos that hash to it.

It handles one call at a time, never waits for a chunk and never imports torch. When it dies, its
unfinished videos are planned again: a new shard knows no video, so no video continues from a
partial state.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from jde_ray.pipelines.config import OutputConfig, TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.output.checkpoints import Checkpoint, clear
from jde_ray.pipelines.own_ray import SPOOL_PREFIX
from jde_ray.pipelines.processes import mark, sweep
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Decoded, DecodeGrant, Segment, Verdict, VideoOutcome
from jde_ray.pipelines.tracking.metrics import Sums, add_outcome
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.session import Checkpointing, VideoSession

logger = logging.getLogger(__name__)

MAX_TRIES = 3  # workers that may die over one chunk, or over decoding one video
_MOST_COMMITS, _COMMITTERS = 16, 4  # commits in the background, and threads that do them


@dataclass
class _Decoding:
    tries: int = 0
    num_chunks: int = 0
    is_begun: bool = False


@dataclass(frozen=True)
class ShardStats:
    """The state of a shard at one moment.

    Attributes:
        open_videos: Videos with a session.
        ended_videos: Videos that are committed or failed.
        duplicates: Chunks that were delivered more than once.
        halted: Why rows cannot be written; None if they can.
        uncuttable: Ids of the videos that must be decoded as one segment.
        sums: Counts of the ended videos for Prometheus.
    """

    open_videos: int
    ended_videos: int
    duplicates: int
    halted: str | None
    uncuttable: list[str]
    sums: Sums


class AssociationShard:
    """Holds the `VideoSession`s of many videos; a plain class, so that tests need no Ray.

    Args:
        out: Address of the run's store.
        config: Association and filters; its hash decides which checkpoints are accepted.
        outputs: Files to write in addition to the tracks.
        metadata: Key-value metadata of every Parquet file.
        segments: Videos of this shard from the start; chunks of any other are STALE.
        checkpoints: Interval at which the state of a long video is saved; None for never.
        s3_endpoint: URL of an S3 store other than AWS.
    """

    def __init__(
        self,
        out: str,
        config: TrackConfig,
        outputs: OutputConfig,
        metadata: Mapping[str, str],
        segments: Iterable[Segment] = (),
        checkpoints: Checkpointing | None = None,
        s3_endpoint: str | None = None,
    ) -> None:
        configure(s3_endpoint)
        self._store = open_store(out)
        self._checkpoints = checkpoints
        self._config, self._outputs, self._metadata = config, outputs, metadata
        _sweep_spools()
        self._spool = tempfile.TemporaryDirectory(prefix=f"{SPOOL_PREFIX}{mark()}-")
        self._segments: dict[str, Segment] = {}
        self._sessions: dict[str, VideoSession] = {}
        self._outcomes: dict[str, VideoOutcome] = {}
        self._tries: Counter[tuple[str, int]] = Counter()
        self._decoding: dict[tuple[str, int], _Decoding] = {}
        self._parted: set[str] = set()  # keeps decode counts, since replays must not be shorter
        self._uncuttable: set[str] = set()
        self._duplicates = 0
        self._sums: Sums = defaultdict(float)
        self._halted: str | None = None
        self._background = ThreadPoolExecutor(_COMMITTERS)
        self._commits: deque[tuple[str, Future[None]]] = deque()
        self.open(segments)

    def open(self, segments: Iterable[Segment]) -> None:
        """Accept chunks of these videos too."""
        self._segments |= {segment.video.video_id: segment for segment in segments}

    def begin(self, video_id: str, attempt: int, chunk_index: int) -> Verdict:
        """Record that a detector starts on a chunk; after `MAX_TRIES` lost ones the video fails."""
        session = self._session(video_id, attempt)
        if session is None:
            return self._closed(video_id, attempt)
        if session.has(chunk_index):
            return Verdict.DUPLICATE
        self._tries[video_id, chunk_index] += 1
        if self._tries[video_id, chunk_index] <= MAX_TRIES:
            return Verdict.TAKEN
        self._fail(session, f"chunk {chunk_index} ended {MAX_TRIES} detectors")
        return Verdict.ENDED

    def begin_all(self, chunks: Sequence[tuple[str, int, int]]) -> list[Verdict] | None:
        """Record that a detector starts on several chunks.

        Returns:
            A verdict per chunk, like `begin`. None if one of them was begun before and never
            delivered; then begin them one by one, to find the chunk that kills its worker.
        """
        if any((video_id, index) in self._tries for video_id, _, index in chunks):
            return None
        answers = [self.begin(*chunk) for chunk in chunks]
        for (video_id, _, index), answer in zip(chunks, answers, strict=True):
            if answer == Verdict.TAKEN:
                self._tries[video_id, index] = 0  # blame a chunk only when it is begun alone
        return answers

    def deliver_all(self, packed: Sequence[wire_format.Packed]) -> list[Verdict]:
        """Deliver several chunks; return a verdict per chunk."""
        return [self.deliver(one) for one in packed]

    def deliver(self, packed: wire_format.Packed) -> Verdict:
        """Hand a chunk of detections to its session.

        Returns:
            The verdict of `VideoSession.deliver`, or HALTED if the store cannot be written.
        """
        chunk = wire_format.unpack(packed)
        session = self._session(chunk.video_id, chunk.attempt)
        if session is None:
            return self._closed(chunk.video_id, chunk.attempt)
        if chunk.decode_whole:
            self._uncuttable.add(chunk.video_id)
            self._forget(chunk.video_id)
            clear(self._store, chunk.video_id)  # its frames may be numbered wrongly
            return Verdict.STALE
        try:
            answer = session.deliver(chunk)
        except OSError as error:
            self._halt(error)
            self._forget(chunk.video_id)
            return Verdict.HALTED
        self._tries.pop((chunk.video_id, chunk.chunk_index), None)
        self._duplicates += answer == Verdict.DUPLICATE
        self._record_outcome(session)
        return answer if self._halted is None else Verdict.HALTED

    def begin_decode(self, segment: Segment) -> DecodeGrant:
        """Record that a decode task starts on a segment, and grant or refuse it."""
        video_id = segment.video.video_id
        place = (video_id, segment.start_frame)
        if segment.is_part:
            self._parted.add(video_id)
        if segment.is_part and video_id not in self._segments and place not in self._decoding:
            # its video has ended, and nothing of this segment has been read
            return DecodeGrant(go=False)
        state = self._decoding.setdefault(place, _Decoding())
        state.tries, state.is_begun = state.tries + 1, True
        if state.tries <= MAX_TRIES:
            return DecodeGrant(go=True)
        session = self._session(video_id, segment.attempt)
        if session is not None:
            self._fail(session, f"decoding ended {MAX_TRIES} workers")
        return DecodeGrant(go=False, num_chunks=state.num_chunks)

    def begin_decode_all(self, segments: Sequence[Segment]) -> list[DecodeGrant] | None:
        """Record that a decode task starts on several segments.

        Returns:
            A grant per segment. None if one of them was begun before and never ended; then begin
            them one by one, to find the segment that kills its worker.
        """
        places = [(segment.video.video_id, segment.start_frame) for segment in segments]
        if any(place in self._decoding and self._decoding[place].is_begun for place in places):
            return None
        answers = [self.begin_decode(segment) for segment in segments]
        for state in filter(None, map(self._decoding.get, places)):
            state.tries = 0  # blame a segment only when it is begun alone
        return answers

    def reached(self, video_id: str, attempt: int) -> int | None:
        """Index of the chunk that the video waits for; None if it is not tracked here."""
        session = self._session(video_id, attempt)
        return None if session is None else session.next_chunk

    def decoded(self, progress: Iterable[Decoded]) -> None:
        """Record the progress of decoding; a segment that has ended no longer counts as a try."""
        for video_id, start_frame, num_chunks, has_ended in progress:
            state = self._decoding.setdefault((video_id, start_frame), _Decoding())
            state.num_chunks = max(state.num_chunks, num_chunks)
            if has_ended:
                state.tries, state.is_begun = 0, False

    def finish(self) -> list[VideoOutcome]:
        """End the attempt and return the outcomes of its videos; unfinished ones are dropped.

        If rows could not be written, `stats` has the reason afterwards.
        """
        self._await_commits(0)
        self._background.shutdown()
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._segments.clear()
        self._spool.cleanup()
        _sweep_spools()  # some lost shards have ended only after this one started
        return list(self._outcomes.values())

    def stats(self) -> ShardStats:
        """Counts for monitoring, and the reason if rows cannot be written."""
        return ShardStats(
            len(self._sessions),
            len(self._outcomes),
            self._duplicates,
            self._halted,
            sorted(self._uncuttable),
            self._sums.copy(),
        )

    def _session(self, video_id: str, attempt: int) -> VideoSession | None:
        segment = self._segments.get(video_id)
        if segment is None or segment.attempt != attempt:
            return None
        if video_id not in self._sessions:
            session = self._open(segment)
            if session is None:
                return None
            self._sessions[video_id] = session
        return self._sessions[video_id]

    def _open(self, segment: Segment) -> VideoSession | None:
        """A session, restored from its checkpoint; None if the checkpoint cannot be read."""
        session = VideoSession(
            segment.video,
            segment.attempt,
            self._config,
            self._outputs,
            self._store,
            self._metadata,
            Path(self._spool.name) / segment.video.video_id,
            checkpoints=self._checkpoints,
            background=self._background,
            replaces=segment.replaces,
            chosen=segment.chosen,
        )
        if not segment.checkpoint:
            return session
        try:
            session.restore(Checkpoint.load(self._store.get(segment.checkpoint)))
        except (ValueError, FileNotFoundError, pa.ArrowException) as error:
            logger.warning("%s cannot be used: %s", segment.checkpoint, error)
            self._store.delete(segment.checkpoint)
        except OSError as error:
            self._halt(error)
        else:
            return session
        session.close()
        self._forget(segment.video.video_id)
        return None

    def _halt(self, error: OSError) -> None:
        """Stop taking chunks: the disk is full or the store is gone, and no video is to blame."""
        logger.error("cannot write to %s: %s", self._store.uri, error)
        self._halted = f"cannot write to {self._store.uri}: {error}"

    def _closed(self, video_id: str, attempt: int) -> Verdict:
        if self._halted is not None:
            return Verdict.HALTED
        return Verdict.ENDED if video_id in self._outcomes else Verdict.STALE

    def _fail(self, session: VideoSession, detail: str) -> None:
        session.fail(VideoError(Reason.WORKER_DIED, detail))
        self._record_outcome(session)

    def _record_outcome(self, session: VideoSession) -> None:
        if session.outcome is not None:
            self._outcomes[session.video.video_id] = session.outcome
            add_outcome(self._sums, session.outcome)
            if session.committing is not None:
                self._commits.append((session.video.video_id, session.committing))
            self._forget(session.video.video_id)
            self._await_commits(_MOST_COMMITS)

    def _await_commits(self, most: int) -> None:
        """Wait until at most `most` commits are pending, and check those that have ended."""
        while self._commits and (len(self._commits) > most or self._commits[0][1].done()):
            video_id, commit = self._commits.popleft()
            try:
                commit.result()
            except OSError as error:
                self._halt(error)
                del self._outcomes[video_id]

    def _forget(self, video_id: str) -> None:
        session = self._sessions.pop(video_id, None)
        if session is not None:
            session.close()
        segment = self._segments.pop(video_id, None)
        if segment is not None and video_id not in self._parted:
            self._decoding.pop((video_id, segment.start_frame), None)
        for key in [key for key in self._tries if key[0] == video_id]:
            del self._tries[key]


def _sweep_spools() -> None:
    """Remove what shards that were killed have left on this machine."""
    sweep(Path(tempfile.gettempdir()), SPOOL_PREFIX)

"""One video being tracked: chunks in any order in, committed rows or an error record out.

Ordering, tracking and commit of a video live here, without Ray: the association shards, the
reference loop and the tests use the same class.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jde_ray.models.structures import Tracks
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import OutputConfig, TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.detections import SavedFrame
from jde_ray.pipelines.formats.file_facts import facts_of_video
from jde_ray.pipelines.output.checkpoints import Checkpoint, belonging, clear, put_parts, save
from jde_ray.pipelines.output.result_files import RowWriter, record_failure, remove_results
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.structures import (
    ChosenSize,
    Counts,
    DetectionChunk,
    TrackedFrame,
    Verdict,
    Video,
    VideoInfo,
    VideoOutcome,
)
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.chunk_tracks import filter_tracks, track_frames
from jde_ray.pipelines.tracking.stages.reorder_buffer import ReorderBuffer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpointing:
    """Interval and name of the checkpoints that a session saves in the store.

    Attributes:
        token: Names the checkpoints of this attempt.
        every_frames: Frames between two checkpoints; a shorter video has none.
    """

    token: str
    every_frames: int


class VideoSession:
    """Reorder buffer, tracker and row writer of one attempt at one video.

    Args:
        video: The video to track.
        attempt: Chunks of another attempt are refused.
        config: Association and filters.
        outputs: Files to write in addition to the tracks.
        store: Store in which the rows are committed.
        metadata: Key-value metadata of the Parquet file: model, weights_sha256, config_hash,
            version.
        folder: Local folder for this session only.
        checkpoints: Interval at which the state is saved in the store; None for never.
        background: Threads that create the video's objects, so that no call waits for the store;
            None: the `deliver` of the last chunk creates them before it returns.
        window: Maximum number of chunks in memory while an earlier one is missing.
        replaces: Whether results of an earlier run may be in the store. They stay there until the
            new ones are complete.
        chosen: Input size that was chosen for the video, for the metadata.

    Attributes:
        outcome: Outcome of the video; None while it has not ended.
        committing: The creation of its objects in the background; None if there is none.
    """

    def __init__(
        self,
        video: Video,
        attempt: int,
        config: TrackConfig,
        outputs: OutputConfig,
        store: ObjectStore,
        metadata: Mapping[str, str],
        folder: Path,
        *,
        checkpoints: Checkpointing | None = None,
        background: Executor | None = None,
        window: int = 8,
        replaces: bool = False,
        chosen: ChosenSize | None = None,
    ) -> None:
        self._replaces, self._chosen = replaces, chosen
        self.video, self.attempt = video, attempt
        self._opened = video  # once it was opened, with the version and start of its file
        self.outcome: VideoOutcome | None = None
        self.committing: Future[None] | None = None
        self._background = background
        self._config, self._outputs, self._store = config, outputs, store
        self._metadata, self._folder = metadata, folder
        self._checkpoints, self._window = checkpoints, window
        self._waiting = self._reorder_from(0)
        self._tracker: JDETracker | None = None
        self._writer: RowWriter | None = None
        self._counts = Counts()
        self._track_ids: set[int] = set()
        self._seconds = 0.0
        self._length_s = 0.0
        self._since = time.perf_counter()
        self._parts: list[dict[str, str]] = []
        self._kept_frames = 0  # at the last checkpoint
        self._state_key: str | None = None  # of the last checkpoint of this attempt

    @property
    def next_chunk(self) -> int:
        """Index of the chunk that the association waits for."""
        return self._waiting.next_index

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, as if all earlier chunks had been delivered here.

        Raises:
            ValueError: If it belongs to another video or configuration, or is damaged.
            OSError: If its parts cannot be read.
        """
        if checkpoint.belongs != self._belonging(self.video.version):
            raise ValueError(f"checkpoint of {self.video.uri}: it belongs to another run or file")
        try:
            self._tracker = self._new_tracker(checkpoint.info)
            self._tracker.set_state(checkpoint.tracker)
            writes = (checkpoint.embedding_dim, checkpoint.has_quality)
            self._writer = self._new_writer(*writes, checkpoint.info)
            self._writer.restore(
                {kind: self._store.get(key) for kind, key in part.items()}
                for part in checkpoint.parts
            )
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
        ) as error:  # unexpected values
            text = f"checkpoint of {self.video.uri}: {type(error).__name__}: {error}"
            raise ValueError(text) from error
        self._counts, self._seconds = deepcopy(checkpoint.counts), checkpoint.seconds
        self._track_ids = set(checkpoint.track_ids.tolist())
        self._length_s = checkpoint.next_frame / checkpoint.info.frames_per_second
        self._parts, self._kept_frames = list(checkpoint.parts), self._counts.frames
        self._waiting = self._reorder_from(checkpoint.next_chunk)

    def has(self, chunk_index: int) -> bool:
        """Whether a chunk was delivered already."""
        return self._waiting.has(chunk_index)

    def deliver(self, chunk: DetectionChunk) -> Verdict:
        """Take a chunk in any order, and track all chunks that are next in order.

        Returns:
            TAKEN; DUPLICATE if it was delivered before, STALE if it belongs to another attempt,
            ENDED if the video has ended.

        Raises:
            OSError: If the spool or the store cannot be written; the video has not ended then.
        """
        if chunk.attempt != self.attempt:
            return Verdict.STALE
        if self._waiting.has(chunk.chunk_index):
            return Verdict.DUPLICATE
        if self.outcome is not None:
            return Verdict.ENDED
        self._since = time.perf_counter()
        self._waiting.offer(chunk.chunk_index, chunk)
        for ready in self._waiting.drain():
            self._take(ready)
            if ready.is_last and self.outcome is None:
                self._commit(ready.info, ready.error)
            if self.outcome is not None:
                break
            self._keep(ready)
        self._seconds += time.perf_counter() - self._since
        return Verdict.TAKEN

    def fail(self, error: VideoError) -> None:
        """End the video with its error record, unless it has ended already."""
        if self.outcome is not None:
            return
        self._end(record_failure(self._store, self.video, error, replaces=self._replaces))

    def close(self) -> None:
        """Free memory and local files; nothing uncommitted is kept."""
        self._waiting.close()
        if self._writer is not None:
            self._writer.abandon()
        self._writer = self._tracker = None

    def _take(self, chunk: DetectionChunk) -> None:
        """Track the frames of the chunk that is next in order."""
        self._counts.drop("max_detections", chunk.num_capped)
        self._counts.damaged += chunk.num_damaged
        self._counts.crops += chunk.num_crops
        try:
            if chunk.error is not None and not (chunk.is_partial and self._counts.frames):
                raise chunk.error
            if len(chunk.frame_index):
                self._track(chunk)
        except VideoError as error:
            if error.__cause__ is not None and error.reason is Reason.INTERNAL:
                logger.exception("association of %s failed", self.video.uri)
            self.fail(error)
        except OSError:
            raise  # the machine's fault, not the video's
        except Exception as error:
            logger.exception("association of %s failed", self.video.uri)
            first = int(chunk.frame_index[0])
            self.fail(VideoError(Reason.INTERNAL, f"{type(error).__name__}: {error}", first))

    def _track(self, chunk: DetectionChunk) -> None:
        """Track the frames of a chunk; those before a bad one are written and counted too."""
        if self._tracker is None:
            self._tracker = self._new_tracker(chunk.info)
        if self._writer is None:
            self._writer = self._new_writer(*_form(chunk), chunk.info)
        elif chunk.info.version not in ("", self._opened.version):  # decoded again by Ray
            detail = "the file was replaced while the video was tracked"
            raise VideoError(Reason.CHANGED_DURING_READ, detail, int(chunk.frame_index[0]))
        frames: list[tuple[SavedFrame, Tracks]] = []
        try:
            frames.extend(track_frames(self._tracker, chunk, self._config))
        finally:
            self._write(self._writer, frames, chunk.info)

    def _write(
        self, writer: RowWriter, frames: Sequence[tuple[SavedFrame, Tracks]], info: VideoInfo
    ) -> None:
        kept = filter_tracks([tracks for _, tracks in frames], self._config, self._counts)
        for (seen, _), tracks in zip(frames, kept, strict=True):
            embeddings = None
            if self._outputs.save_embeddings:
                chosen = seen.found.embeddings[tracks.detection_index]
                embeddings = chosen.astype(np.float16, copy=False)
            writer.write_detections(seen)
            writer.write(TrackedFrame(seen.frame, seen.time_s, tracks, embeddings))
            self._counts.frames += 1
            self._counts.detections += len(seen.found)
            self._counts.rows += len(tracks)
            self._length_s = seen.time_s + self._config.vid_stride / info.frames_per_second
        for tracks in kept:
            self._track_ids.update(tracks.track_id.tolist())
        self._counts.tracks = len(self._track_ids)

    def _reorder_from(self, first: int) -> ReorderBuffer[DetectionChunk]:
        folder = self._folder / "waiting"
        return ReorderBuffer(
            folder, wire_format.dump, wire_format.load, window=self._window, first=first
        )

    def _new_tracker(self, info: VideoInfo) -> JDETracker:
        return JDETracker(self._config.tracking, info.frames_per_second)

    def _new_writer(self, embedding_dim: int, has_quality: bool, info: VideoInfo) -> RowWriter:
        self._opened = info.as_opened(self.video)
        return RowWriter(
            self._folder / "rows",
            self._opened,
            embedding_dim,
            self._outputs,
            has_motion=self._config.estimates_motion,
            has_quality=has_quality,
            has_checkpoints=self._checkpoints is not None,
        )

    def _belonging(self, version: str) -> dict[str, Any]:
        video = replace(self.video, version=self.video.version and version)  # "" if not listed
        return belonging(video, self._config.hash(), asdict(self._outputs))

    def _keep(self, chunk: DetectionChunk) -> None:
        """Save a checkpoint after this chunk, if one is due."""
        place, writer, tracker = self._checkpoints, self._writer, self._tracker
        if place is None or writer is None or tracker is None or not len(chunk.frame_index):
            return
        if self._counts.frames - self._kept_frames < place.every_frames:
            return
        next_frame = int(chunk.frame_index[-1]) + self._config.vid_stride
        where = (self._store, self.video.video_id, place.token)
        self._parts.append(put_parts(*where, next_frame, writer.checkpoint()))
        embedding_dim, has_quality = _form(chunk)
        checkpoint = Checkpoint(
            belongs=self._belonging(self._opened.version),
            next_frame=next_frame,
            next_chunk=chunk.chunk_index + 1,
            chunk_frames=len(chunk.frame_index),
            info=chunk.info,
            embedding_dim=embedding_dim,
            has_quality=has_quality,
            counts=self._counts,
            seconds=self._seconds,
            track_ids=np.array(sorted(self._track_ids), np.int64),
            parts=self._parts,
            tracker=tracker.get_state(),
        )
        before, self._state_key = self._state_key, save(*where, checkpoint)
        if before is not None:
            self._store.delete(before)
        self._kept_frames = self._counts.frames

    def _commit(self, info: VideoInfo, damage: VideoError | None) -> None:
        """Create the video's objects; `damage` ended a video whose frames before it are kept."""
        if self._writer is None:
            self.fail(VideoError(Reason.EMPTY, "no frame could be decoded"))
            return
        partial = "" if damage is None else str(damage)
        facts = facts_of_video(self._opened, info, self._counts, partial, self._chosen)
        create = self._writer.seal({**facts, **self._metadata})
        self._writer = None
        if self._background is None:
            self._create(create)
        else:
            self.committing = self._background.submit(self._create, create)
        self._end(None, partial)

    def _create(self, create: Callable[[ObjectStore], bool]) -> None:
        if self._replaces:
            remove_results(self._store, self.video.video_id)
        create(self._store)  # if another attempt was first, its rows are the same
        if self._parts:
            clear(self._store, self.video.video_id)

    def _end(self, error: VideoError | None, partial: str = "") -> None:
        if self._tracker is not None:
            self._counts.drop("degenerate_box", self._tracker.num_degenerate)
        seconds = self._seconds + time.perf_counter() - self._since
        size = ("", "") if self._chosen is None else (str(self._chosen), self._chosen.why)
        result = (error, self._length_s, partial, *size)
        self.outcome = VideoOutcome(self._opened, self._counts, seconds, *result)
        self.close()
        if self._parts and error is not None:
            clear(self._store, self.video.video_id)


def _form(chunk: DetectionChunk) -> tuple[int, bool]:
    """Width of the embeddings, and whether there are qualities, in all chunks of a video."""
    first = chunk.detections[0]
    return first.embeddings.shape[1], first.quality is not None

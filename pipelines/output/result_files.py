"""Writes one video's rows without Ray: spools them to local disk, then creates the object once.

The bytes depend only on the rows: no clock, no attempt number, a fixed size of row groups, and a
codec that follows from the number of rows.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TextIO

import pyarrow.parquet as pq

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import PASSING, VideoError
from jde_ray.pipelines.formats.detections import SavedFrame, detection_schema, detection_table
from jde_ray.pipelines.formats.file_facts import fact_of_detections
from jde_ray.pipelines.formats.parquet_file import ParquetFile
from jde_ray.pipelines.formats.tracks import ROW_GROUP_ROWS, TrackRows, track_schema, track_table
from jde_ray.pipelines.output.layout import (
    crops_prefix,
    detections_key,
    error_key,
    mot_key,
    result_keys,
    tracks_key,
)
from jde_ray.pipelines.output.text_names import plain_text_key
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.structures import TrackedFrame, Video

_FRAME_GROUP_ROWS = 256  # rows of detections/, each of which is a frame
_TABLE_ROWS = 4096  # rows of tracks/ that are converted to Arrow at once


def remove_results(store: ObjectStore, video_id: str) -> None:
    """Remove all results of a video.

    Its tracks are removed first: if the process ends in between, the next run tracks the video
    again and replaces the remaining objects.
    """
    plain = plain_text_key(store, video_id)
    for key in (*result_keys(video_id), *filter(None, [plain])):
        store.delete(key)
    for key in list(store.list(crops_prefix(video_id))):
        store.delete(key)


def record_failure(
    store: ObjectStore, video: Video, error: VideoError, *, replaces: bool = False
) -> VideoError:
    """Create a video's error record.

    Args:
        store: OUT.
        video: The video that failed.
        error: Error with which it failed.
        replaces: Whether results of an earlier run may exist. They are removed, unless the error is
            temporary; then existing tracks are kept, and no record is written.

    Returns:
        The error; its detail says so if tracks were kept.
    """
    if replaces and error.reason in PASSING and store.exists(tracks_key(video.video_id)):
        detail = f"{error.detail}; its earlier tracks were kept"
        return VideoError(error.reason, detail, error.frame)
    if replaces:
        remove_results(store, video.video_id)
    write_error(store, video, error)
    return error


def write_error(store: ObjectStore, video: Video, error: VideoError) -> bool:
    """Create a video's error record; return False if it has one already."""
    record = {"video": video.uri, "reason": str(error.reason), "detail": error.detail}
    text = json.dumps(record | {"frame": error.frame}, indent=1, ensure_ascii=False)
    return store.put_if_absent(error_key(video.video_id), f"{text}\n".encode())


class RowWriter:
    """Writes the rows of one video, in order of frames; holds less than one row group in memory.

    Args:
        folder: Local folder for this writer only; it is removed at the end.
        video: The video that the rows belong to.
        embedding_dim: Width D of the detector's embeddings.
        outputs: Files to write in addition to the tracks.
        has_motion: Whether all frames have the camera's motion.
        has_quality: Whether all detections have a quality.
        has_checkpoints: Whether `checkpoint` will be called.
    """

    def __init__(
        self,
        folder: Path,
        video: Video,
        embedding_dim: int,
        outputs: OutputConfig,
        *,
        has_motion: bool = False,
        has_quality: bool = False,
        has_checkpoints: bool = False,
    ) -> None:
        self._folder, self._video, self._outputs = folder, video, outputs
        self._embedding_dim = embedding_dim
        self._has = {"has_motion": has_motion, "has_quality": has_quality}
        self._stored_dim = embedding_dim if outputs.save_embeddings else None
        schema = track_schema(self._stored_dim)
        self._tracks = ParquetFile(
            folder / "tracks.parquet", schema, ROW_GROUP_ROWS, has_checkpoints
        )
        self._detections: ParquetFile | None = None
        if outputs.save_detections:
            schema = detection_schema(embedding_dim, **self._has)
            path = folder / "detections.parquet"
            self._detections = ParquetFile(path, schema, _FRAME_GROUP_ROWS, has_checkpoints)
        self._mot = _opened(folder / "mot.txt") if outputs.save_mot else None
        # rows and frames that wait for conversion to Arrow, since many cost as much as one
        self._rows: list[TrackedFrame] = []
        self._found: list[SavedFrame] = []
        self._num_rows = 0

    def write(self, frame: TrackedFrame) -> None:
        """Append the tracks of one frame, sorted by id."""
        if not len(frame.tracks):
            return
        self._rows.append(frame)
        self._num_rows += len(frame.tracks)
        if self._num_rows >= _TABLE_ROWS:
            self._flush_rows()

    def write_detections(self, frame: SavedFrame) -> None:
        """Append the detections of one frame, even if there are none."""
        if self._detections is None:
            return
        self._found.append(frame)
        if len(self._found) >= _FRAME_GROUP_ROWS:
            self._flush_found()

    def _flush_rows(self) -> None:
        if not self._rows:
            return
        table = track_table(self._video, self._rows, self._stored_dim)
        self._tracks.append(table)
        if self._mot is not None:
            self._mot.write(TrackRows.from_table(table).to_mot())
        self._rows, self._num_rows = [], 0

    def _flush_found(self) -> None:
        if self._detections is None or not self._found:
            return
        table = detection_table(self._video, self._found, self._embedding_dim, **self._has)
        self._detections.append(table)
        self._found = []

    def checkpoint(self) -> dict[str, Path]:
        """Files of the rows since the last call, by kind; they are overwritten later."""
        self._flush_rows()
        self._flush_found()
        files = {"tracks": self._tracks, "detections": self._detections}
        parts = {kind: file.take_part() for kind, file in files.items() if file is not None}
        return {kind: path for kind, path in parts.items() if path is not None}

    def restore(self, parts: Iterable[Mapping[str, bytes]]) -> None:
        """Write the rows of checkpoints in order, as if they had been written one by one."""
        for part in parts:
            if "tracks" in part:
                self._tracks.restore(io.BytesIO(part["tracks"]))
                if self._mot is not None:
                    rows = pq.read_table(io.BytesIO(part["tracks"]))
                    self._mot.write(TrackRows.from_table(rows).to_mot())
            if self._detections is not None and "detections" in part:
                self._detections.restore(io.BytesIO(part["detections"]))

    def commit(self, store: ObjectStore, metadata: Mapping[str, str]) -> bool:
        """Create the video's objects, its tracks last; return False if another attempt was first.

        Raises:
            OSError: If the disk is full.
        """
        return self.seal(metadata)(store)

    def seal(self, metadata: Mapping[str, str]) -> Callable[[ObjectStore], bool]:
        """A function that closes the files and creates the video's objects, in any thread.

        The writer takes no more rows; encoding them is left to that thread too.
        """
        video_id = self._video.video_id

        def create(store: ObjectStore) -> bool:
            self._flush_rows()
            self._flush_found()
            tracks = self._tracks.close(metadata)
            if self._detections is not None:
                facts = {**metadata, **fact_of_detections(self._video)}
                store.put(detections_key(video_id), self._detections.close(facts))
            if self._mot is not None:
                self._mot.close()
                store.put(mot_key(video_id), self._folder / "mot.txt")
            created = store.put_if_absent(tracks_key(video_id), tracks)
            self._remove_folder()
            return created

        return create

    def abandon(self) -> None:
        """Discard all files."""
        self._tracks.abandon()
        if self._detections is not None:
            self._detections.abandon()
        if self._mot is not None:
            self._mot.close()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder.exists():  # a short video is never on disk
            shutil.rmtree(self._folder, ignore_errors=True)


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")

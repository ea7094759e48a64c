"""One video's rows: spooled to local disk, then created in the store once. No Ray.

The bytes depend on the rows only: fixed codec and row-group size, no clock, no attempt number.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.structures import Detections, Tracks
from pipelines.config import OutputConfig
from pipelines.errors import VideoError
from pipelines.schema import TrackedFrame, Video, detection_schema, track_schema
from pipelines.storage import ObjectStore

ROW_GROUP_ROWS = 16_384
_FRAME_GROUP_ROWS = 256  # a row of detections/ is a whole frame

_CORNERS = ("x1", "y1", "x2", "y2")


def tracks_key(video_id: str) -> str:
    """Where a video's rows are; the object's existence is the commit."""
    return f"tracks/{video_id}.parquet"


def error_key(video_id: str) -> str:
    """Where a failed video's error record is."""
    return f"errors/{video_id}.json"


def mot_key(video_id: str) -> str:
    """Key of a video's MOTChallenge text."""
    return f"mot/{video_id}.txt"


def mot_text(table: pa.Table) -> str:
    """MOTChallenge text of a committed file of tracks; the same as `--save-mot` writes at once."""
    columns = {name: table.column(name).to_numpy() for name in ("frame", "track_id", "score")}
    tlbr = np.stack([table.column(name).to_numpy() for name in _CORNERS], 1).astype(np.float64)
    frames, starts = np.unique(columns["frame"], return_index=True)
    lines: list[str] = []
    for frame, start, end in zip(frames, starts, [*starts[1:], len(table)], strict=True):
        ids, scores = columns["track_id"][start:end], columns["score"][start:end]
        rows = Tracks(ids, tlbr[start:end], scores, np.arange(end - start))
        lines += rows.to_mot(int(frame))
    return "".join(f"{line}\n" for line in lines)


def video_key(video_id: str) -> str:
    """Where a video with its tracks drawn on it is."""
    return f"videos/{video_id}.mp4"


def write_error(store: ObjectStore, video: Video, error: VideoError) -> bool:
    """Create a video's error record; False if it has one already."""
    record = {"video": video.uri, "reason": str(error.reason), "detail": error.detail}
    text = json.dumps(record | {"frame": error.frame}, indent=1, ensure_ascii=False)
    return store.put_if_absent(error_key(video.video_id), f"{text}\n".encode())


class _ParquetFile:
    """A Parquet file of fixed-size row groups, whose metadata comes at the end.

    It is metadata of the file (`pq.read_metadata(path).metadata`), not of its Arrow schema: the
    number of frames is not known when the schema is written. With `has_parts` the rows since the
    last call of `take_part` lie in a file of their own too, for a checkpoint.
    """

    def __init__(self, path: Path, schema: pa.Schema, group_rows: int, has_parts: bool) -> None:
        self.path, self._schema, self._group_rows = path, schema, group_rows
        self._writer = _parquet_writer(path, schema)
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._has_parts = has_parts
        self._part: pq.ParquetWriter | None = None
        self._num_parted = 0  # of the waiting rows, those that a part holds already

    def write(self, columns: list[pa.Array]) -> None:
        self.append(pa.Table.from_arrays(columns, schema=self._schema))

    def append(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        if self._num_waiting >= self._group_rows:
            self._flush(self._num_waiting - self._num_waiting % self._group_rows)

    def take_part(self) -> Path | None:
        """The file of the rows since the last call, None if there are none."""
        if self._num_waiting > self._num_parted:
            self._write_part(pa.concat_tables(self._waiting), self._num_waiting)
        if self._part is None:
            return None
        self._part.close()
        self._part = None
        return self._part_path

    def restore(self, part: io.BytesIO) -> None:
        """Append rows that lie in a part already."""
        file, has_parts = pq.ParquetFile(part), self._has_parts
        self._has_parts = False
        for group in range(file.num_row_groups):
            self.append(file.read_row_group(group).cast(self._schema))
        self._has_parts, self._num_parted = has_parts, self._num_waiting

    def close(self, metadata: Mapping[str, str]) -> None:
        self._has_parts = False
        if self._num_waiting:
            self._flush(self._num_waiting)
        self._writer.add_key_value_metadata(dict(metadata))
        self.abandon()

    def abandon(self) -> None:
        self._writer.close()
        if self._part is not None:
            self._part.close()

    @property
    def _part_path(self) -> Path:
        return self.path.with_suffix(".part")

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting).combine_chunks()
        if self._has_parts:
            self._write_part(table, rows)
        self._num_parted = max(0, self._num_parted - rows)
        self._writer.write_table(table.slice(0, rows), row_group_size=self._group_rows)
        rest = table.slice(rows)
        self._waiting = [rest] if rest.num_rows else []
        self._num_waiting = rest.num_rows

    def _write_part(self, table: pa.Table, rows: int) -> None:
        """Into the part: the waiting rows up to `rows` that no part holds yet."""
        new = table.slice(self._num_parted, rows - self._num_parted)
        if new.num_rows <= 0:
            return
        if self._part is None:
            self._part = _parquet_writer(self._part_path, self._schema)
        self._part.write_table(new.combine_chunks())
        self._num_parted = rows


def _parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)


class RowWriter:
    """Rows of one video, in order of frames; memory stays below one row group.

    Args:
        folder: Local folder of this writer alone; it is removed at the end.
        video: Whose rows.
        embedding_dim: Width D of the detector's embeddings.
        outputs: What is written beside the tracks.
        has_checkpoints: `checkpoint` will be called.
    """

    def __init__(
        self,
        folder: Path,
        video: Video,
        embedding_dim: int,
        outputs: OutputConfig,
        *,
        has_checkpoints: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._video, self._outputs = folder, video, outputs
        schema = track_schema(embedding_dim if outputs.save_embeddings else None)
        self._tracks = _ParquetFile(
            folder / "tracks.parquet", schema, ROW_GROUP_ROWS, has_checkpoints
        )
        self._detections: _ParquetFile | None = None
        if outputs.save_detections:
            schema = detection_schema(embedding_dim)
            path = folder / "detections.parquet"
            self._detections = _ParquetFile(path, schema, _FRAME_GROUP_ROWS, has_checkpoints)
        self._mot = (folder / "mot.txt").open("w") if outputs.save_mot else None

    def write(self, frame: TrackedFrame) -> None:
        """Append the tracks of one frame, sorted by id."""
        tracks = frame.tracks
        if not len(tracks):
            return
        order = np.argsort(tracks.track_id, kind="stable")
        count, box = len(tracks), tracks.tlbr[order].astype(np.float32)
        columns = [
            _repeated(self._video.video_id, count),
            _repeated(self._video.uri, count),
            pa.array(np.full(count, frame.frame_index, np.int32)),
            pa.array(np.full(count, frame.time_s, np.float64)),
            pa.array(tracks.track_id[order].astype(np.int32)),
            *(pa.array(np.ascontiguousarray(box[:, i])) for i in range(len(_CORNERS))),
            pa.array(tracks.score[order].astype(np.float32)),
        ]
        vectors = frame.embeddings
        if self._outputs.save_embeddings and vectors is not None and vectors.shape[1]:
            columns.append(_binary(vectors[order]))
        self._tracks.write(columns)
        if self._mot is not None:  # as the Parquet has them, so that either gives the same text
            ids, scores = tracks.track_id[order], tracks.score[order]
            rows = Tracks(ids, box.astype(np.float64), scores, tracks.detection_index[order])
            self._mot.writelines(f"{line}\n" for line in rows.to_mot(frame.frame_index))

    def write_detections(self, frame_index: int, time_s: float, found: Detections) -> None:
        """Append what the detector saw in one frame, also when that is nothing."""
        if self._detections is None:
            return
        boxes = pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(found.tlbr, np.float32).reshape(-1)), 4
        )
        ends = pa.array([0, len(found)], pa.int32())
        scores = pa.array(found.scores.astype(np.float32))
        columns = [pa.array([frame_index], pa.int32()), pa.array([time_s], pa.float64())]
        lists = [boxes, scores]
        if found.embeddings.shape[1]:
            lists.append(_binary(found.embeddings))
        columns += [pa.ListArray.from_arrays(ends, values) for values in lists]
        schema = detection_schema(found.embeddings.shape[1])
        self._detections.write([c.cast(f.type) for c, f in zip(columns, schema, strict=True)])

    def checkpoint(self) -> dict[str, Path]:
        """Files of the rows since the last call, by kind; they are overwritten later."""
        files = {"tracks": self._tracks, "detections": self._detections}
        parts = {kind: file.take_part() for kind, file in files.items() if file is not None}
        return {kind: path for kind, path in parts.items() if path is not None}

    def restore(self, parts: Iterable[Mapping[str, bytes]]) -> None:
        """Write the rows of checkpoints, in order, as if they had been written one by one."""
        for part in parts:
            if "tracks" in part:
                self._tracks.restore(io.BytesIO(part["tracks"]))
                if self._mot is not None:
                    self._mot.write(mot_text(pq.read_table(io.BytesIO(part["tracks"]))))
            if self._detections is not None and "detections" in part:
                self._detections.restore(io.BytesIO(part["detections"]))

    def commit(self, store: ObjectStore, metadata: Mapping[str, str]) -> bool:
        """Create the video's objects, its tracks last; False if another attempt was first.

        Raises:
            OSError: If the disk is full.
        """
        video_id = self._video.video_id
        self._tracks.close(metadata)
        if self._detections is not None:
            # whose they are, so that tracks of them go by the same id and name
            self._detections.close({**metadata, "source": _identity(self._video)})
            store.put(f"detections/{video_id}.parquet", self._detections.path)
        if self._mot is not None:
            self._mot.close()
            store.put(mot_key(video_id), self._folder / "mot.txt")
        created = store.put_if_absent(tracks_key(video_id), self._tracks.path)
        shutil.rmtree(self._folder, ignore_errors=True)
        return created

    def abandon(self) -> None:
        """Throw everything away."""
        self._tracks.abandon()
        if self._detections is not None:
            self._detections.abandon()
        if self._mot is not None:
            self._mot.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _identity(video: Video) -> str:
    """What a video goes by, as JSON; not what changes when its file is copied."""
    names = [field.name for field in fields(video) if field.compare]
    return json.dumps({name: getattr(video, name) for name in names})


def _repeated(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))


def _binary(embeddings: NDArray[Any]) -> pa.Array:
    count, width = embeddings.shape
    content = np.ascontiguousarray(embeddings, np.float16)
    buffers = [None, pa.py_buffer(content.tobytes())]
    return pa.Array.from_buffers(pa.binary(2 * width), count, buffers)

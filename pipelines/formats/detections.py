"""Detections in files: `detections/*.parquet` of a run, and MOTChallenge `det.txt`.

`detections/*.parquet` holds the detections that a run's association received; no other module but
`detection_columns` and `detection_rows` names its columns. Rows of MOT text may be in any order,
their ids are ignored, and scores outside [0, 1] are mapped (`pipelines.formats.score_map`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.structures import Detections, FloatArray, IntArray
from jde_ray.models.tracking.kalman import joined_motion
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.detection_columns import check_schema, check_values, read_columns
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.mot import read_scored
from jde_ray.pipelines.formats.parquet_file import binary_array, open_parquet
from jde_ray.pipelines.formats.score_map import to_scores
from jde_ray.pipelines.formats.sequence_info import read_sequence_info, sequence_info_path
from jde_ray.pipelines.formats.video_columns import PERSON, TEXT, TIME, clock_times, repeated
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DEFAULT_RATE, Video, VideoInfo

# read by the association
_NEEDED = ("frame", "time_s", "boxes", "scores")
_READ = (*_NEEDED, "camera_motion", "embeddings", "qualities")
_MOST_EMPTY = 4096  # frames of MOT text that are looked up at once


class SavedFrame(NamedTuple):
    """What the association sees of one frame.

    Attributes:
        frame: 0-based frame number.
        time_s: Presentation time in seconds.
        found: Detections, in source pixels.
        camera_motion: `(2, 3)` float64, maps source pixels of the frame before to this frame's;
            None if it was not estimated.
    """

    frame: int
    time_s: float
    found: Detections
    camera_motion: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SavedVideo:
    """Detections of one video.

    Attributes:
        video: The video in which they were found; its tracks get its id.
        root: Folder or `s3://` prefix that holds the file.
        key: Key of the file below `root`: MOT text if it ends in .txt, else Parquet.
        has_motion: Whether the file holds the camera's motion.
        frames: The video whose frames show the camera's motion, if they are at hand.
    """

    video: Video
    root: str
    key: str
    has_motion: bool = False
    frames: Video | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is MOT text."""
        return self.key.lower().endswith(".txt")


def read_saved(saved: SavedVideo, config: TrackConfig) -> tuple[VideoInfo, Iterator[SavedFrame]]:
    """Size and rate of a video, and its frames with the detections that the run uses.

    A Parquet file is read row group by row group while the iterator advances. With a stride the
    camera's motion is that of all frames from one taken frame to the next.

    Raises:
        ValueError: If MOT text cannot be read, with file and line; or if a Parquet file holds what
            no run writes, with file and row (from 0), which the iterator raises when it gets there.
        OSError: If the file cannot be read.
        pyarrow.ArrowException: If it is not a Parquet file.
    """
    info, frames = _read_text(saved, config) if saved.is_text else _read_parquet(saved, config)
    return info, islice(_every(frames, config.vid_stride), config.max_frames)


def _every(frames: Iterator[SavedFrame], stride: int) -> Iterator[SavedFrame]:
    """Every n-th frame, with the camera's motion since the one before."""
    skipped: list[SavedFrame] = []
    for frame in frames:
        if frame.frame % stride:
            skipped.append(frame)
            continue
        if skipped:
            motions = [one.camera_motion for one in (*skipped, frame)]
            yield frame._replace(camera_motion=joined_motion(motions))
            skipped = []
        else:
            yield frame


def read_damage(saved: SavedVideo) -> str:
    """Damage of the video before which its detections end; empty for none.

    Raises:
        OSError: If the file cannot be read.
        pyarrow.ArrowException: If it is not a Parquet file.
    """
    if saved.is_text:
        return ""
    return FileFacts.of(open_parquet(open_store(saved.root), saved.key).metadata).partial


def _read_parquet(saved: SavedVideo, config: TrackConfig) -> tuple[VideoInfo, Iterator[SavedFrame]]:
    file = open_parquet(open_store(saved.root), saved.key)
    facts = FileFacts.of(file.metadata)
    if not facts.has_frame_rate or "boxes" not in file.schema_arrow.names:
        raise ValueError(f"{saved.key}: no detections of a run (--save-detections)")
    check_schema(saved.key, file.schema_arrow, _NEEDED)
    try:
        size, rate = facts.size, facts.frames_per_second
    except KeyError as error:
        raise ValueError(f"{saved.key}: no {error.args[0].decode()} in its metadata") from error
    if not 0 < rate < np.inf:
        raise ValueError(f"{saved.key}: frames_per_second: got {rate}, expected above 0")
    info = VideoInfo(*size, rate, file.metadata.num_rows * config.vid_stride)
    return info, _frames_of(saved.key, file, np.float32(config.detection.threshold))


def _frames_of(key: str, file: pq.ParquetFile, threshold: np.float32) -> Iterator[SavedFrame]:
    names = [name for name in file.schema_arrow.names if name in _READ]
    num_before, before = 0, (-1.0, -np.inf)
    for batch in filter(len, file.iter_batches(batch_size=256, columns=names)):
        arrays = {name: batch.column(name) for name in batch.schema.names}
        columns = read_columns(arrays, key, num_before)
        times = arrays["time_s"].to_numpy()
        check_values(columns, times, key, num_before, before)
        num_before, before = num_before + len(times), (float(columns.frame[-1]), float(times[-1]))
        ends = np.concatenate([[0], np.cumsum(columns.counts)])
        for row, frame in enumerate(columns.frame):
            own = slice(int(ends[row]), int(ends[row + 1]))
            found = columns.detections(own)
            keep = found.scores > threshold  # as a detector with this threshold does
            motion = None if columns.motion is None else columns.motion[row]
            kept = found if keep.all() else found[keep]
            yield SavedFrame(int(frame), float(times[row]), kept, motion)


def has_known_size(saved: SavedVideo) -> bool:
    """Whether the size of the pictures is known, not guessed from the boxes."""
    return not saved.is_text or sequence_info_path(Path(saved.root) / saved.key) is not None


def _read_text(saved: SavedVideo, config: TrackConfig) -> tuple[VideoInfo, Iterator[SavedFrame]]:
    path = Path(saved.root) / saved.key
    scored = read_scored(path)
    scores = to_scores(scored.scores, config.detection.score_map)
    order = np.argsort(scored.rows.frame, kind="stable")
    frame, tlbr = scored.rows.frame[order], scored.rows.tlbr[order].astype(np.float32)
    num_frames = int(frame[-1]) + 1 if len(frame) else 0
    place = sequence_info_path(path)
    if place is None:
        far = np.ceil(tlbr[:, 2:].max(axis=0, initial=1))
        info = VideoInfo(int(far[0]), int(far[1]), DEFAULT_RATE)
    else:
        known = read_sequence_info(place)
        info = VideoInfo(known.width, known.height, known.frames_per_second)
        num_frames = max(num_frames, known.num_frames)
    if not num_frames:
        raise VideoError(Reason.EMPTY, f"{saved.key}: no detection and no seqinfo.ini")
    return info, _frames_between(frame, tlbr, scores[order], num_frames, info.frames_per_second)


def _frames_between(
    frame: IntArray, tlbr: FloatArray, scores: FloatArray, num_frames: int, rate: float
) -> Iterator[SavedFrame]:
    """All frames of a video from its detections, which are sorted by frame."""
    for first in range(0, num_frames, _MOST_EMPTY):  # one far number must not take all memory
        numbers = np.arange(first, min(first + _MOST_EMPTY, num_frames) + 1)
        ends = np.searchsorted(frame, numbers).tolist()
        for index, start, end in zip(numbers.tolist(), ends, ends[1:], strict=False):
            blind = np.zeros((end - start, 0), np.float16)
            found = Detections(tlbr[start:end], scores[start:end], blind)
            yield SavedFrame(index, index / rate, found)


def detection_schema(
    embedding_dim: int, *, has_motion: bool = False, has_quality: bool = False
) -> pa.Schema:
    """Arrow schema of `detections/*.parquet`: one row per frame, even without detections.

    Args:
        embedding_dim: Width D of the float16 embeddings; 0 for no such column.
        has_motion: Whether the camera's motion was estimated; otherwise there is no such column.
        has_quality: Whether the network tells the quality of pictures; likewise.
    """
    box = pa.list_(pa.float32(), 4)
    columns: list[Any] = [("camera", TEXT), ("frame", pa.int32()), ("time_s", pa.float64())]
    columns.append(("time", TIME))
    if has_motion:  # six numbers, row by row
        columns.append(("camera_motion", pa.list_(pa.float64(), 6)))
    columns += [("boxes", pa.list_(box)), ("scores", pa.list_(pa.float32()))]
    columns.append(("classes", pa.list_(pa.string())))
    if embedding_dim:  # Parquet has no values of 0 bytes
        columns.append(("embeddings", pa.list_(pa.binary(2 * embedding_dim))))
    if has_quality:
        columns.append(("qualities", pa.list_(pa.float32())))
    return pa.schema(columns)


def detection_table(
    video: Video,
    frames: Sequence[SavedFrame],
    embedding_dim: int,
    *,
    has_motion: bool = False,
    has_quality: bool = False,
) -> pa.Table:
    """Rows of successive frames: one per frame; columns hold lists with one item per detection.

    Args:
        video: The video that the frames belong to.
        frames: In the order of their numbers.
        embedding_dim: Width D of the embeddings; 0 for no such column.
        has_motion: Whether all frames have the camera's motion.
        has_quality: Whether all detections have a quality.
    """
    numbers, times, found, motions = zip(*frames, strict=True)
    tlbr = np.concatenate([one.tlbr for one in found]).astype(np.float32, copy=False)
    scores = np.concatenate([one.scores for one in found]).astype(np.float32)
    lists = {
        "boxes": pa.FixedSizeListArray.from_arrays(pa.array(tlbr.reshape(-1)), 4),
        "scores": pa.array(scores),
        "classes": repeated(PERSON, len(scores)).dictionary_decode(),
    }
    if embedding_dim:
        lists["embeddings"] = binary_array(np.concatenate([one.embeddings for one in found]))
    if has_quality:
        told = [one.quality for one in found if len(one)]
        lists["qualities"] = pa.array(np.concatenate([np.zeros(0, np.float32), *told]))
    ends = pa.array(np.cumsum([0, *map(len, found)]), pa.int32())
    columns = {
        "camera": repeated(video.camera, len(numbers)),
        "frame": pa.array(numbers, pa.int32()),
        "time_s": pa.array(times, pa.float64()),
        "time": clock_times(video.start, np.array(times, np.float64)),
    }
    if has_motion:
        values = pa.array(np.stack(motions).reshape(-1))
        columns["camera_motion"] = pa.FixedSizeListArray.from_arrays(values, 6)
    columns |= {name: pa.ListArray.from_arrays(ends, values) for name, values in lists.items()}
    schema = detection_schema(embedding_dim, has_motion=has_motion, has_quality=has_quality)
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)

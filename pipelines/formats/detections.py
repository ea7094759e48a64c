"""Detections in files: `detections/*.parquet` of a run, and MOTChallenge `det.txt`.

`detections/*.parquet` holds the detections that a run's association received; no other module but
`detection_rows` names its columns. Rows of MOT text may be in any order, their ids are ignored, and
scores outside [0, 1] are mapped (`pipelines.formats.score_map`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.structures import Detections
from jde_ray.models.tracking.kalman import joined_motion
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.mot import read_scored, read_sequence_info, sequence_info_path
from jde_ray.pipelines.formats.parquet_file import binary_array, open_parquet, vectors_of
from jde_ray.pipelines.formats.score_map import to_scores
from jde_ray.pipelines.formats.video_columns import PERSON, TEXT, TIME, clock_times, repeated
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DEFAULT_RATE, Video, VideoInfo

# read by the association
_READ = ("frame", "time_s", "camera_motion", "boxes", "scores", "embeddings", "qualities")


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
        ValueError: If MOT text cannot be read, with file and line.
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
    rate, num_frames = facts.frames_per_second, file.metadata.num_rows
    info = VideoInfo(*facts.size, rate, num_frames * config.vid_stride)
    return info, _frames_of(file, np.float32(config.detection.threshold))


def _frames_of(file: pq.ParquetFile, threshold: np.float32) -> Iterator[SavedFrame]:
    names = [name for name in file.schema_arrow.names if name in _READ]
    for batch in file.iter_batches(batch_size=256, columns=names):
        columns = read_columns({name: batch.column(name) for name in batch.schema.names})
        times = batch.column("time_s").to_numpy()
        ends = np.concatenate([[0], np.cumsum(columns.counts)])
        for row, frame in enumerate(columns.frame):
            own = slice(int(ends[row]), int(ends[row + 1]))
            found = columns.detections(own)
            keep = found.scores > threshold  # as a detector with this threshold does
            motion = None if columns.motion is None else columns.motion[row]
            kept = found if keep.all() else found[keep]
            yield SavedFrame(int(frame), float(times[row]), kept, motion)


@dataclass(frozen=True)
class DetectionColumns:
    """Columns of F frames with n detections in all, in the file's precision.

    Attributes:
        frame: `(F,)` 0-based frame numbers.
        counts: `(F,)` detections per frame.
        tlbr: `(n, 4)` float32.
        scores: `(n,)` float32.
        embeddings: `(n, D)` float16; D is 0 if the file stores none.
        motion: `(F, 2, 3)` float64 motion of the camera; None if the file stores none.
        quality: `(n,)` float32; None if the file stores none.
    """

    frame: NDArray[np.int32]
    counts: NDArray[np.int32]
    tlbr: NDArray[np.float32]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float16]
    motion: NDArray[np.float64] | None
    quality: NDArray[np.float32] | None

    def detections(self, own: slice) -> Detections:
        """Those in a range of the n."""
        quality = None if self.quality is None else self.quality[own]
        return Detections(self.tlbr[own], self.scores[own], self.embeddings[own], quality)


def read_columns(columns: Mapping[str, pa.Array]) -> DetectionColumns:
    """The numbers of some columns of a file, by name."""
    scores = columns["scores"].flatten().to_numpy(zero_copy_only=False)
    embeddings = np.zeros((len(scores), 0), np.float16)
    if "embeddings" in columns:  # a detector without embedder saves none
        embeddings = vectors_of(columns["embeddings"].flatten())
    motion = None
    if "camera_motion" in columns:
        values = columns["camera_motion"].flatten().to_numpy(zero_copy_only=False)
        motion = values.reshape(-1, 2, 3)
    quality = None
    if "qualities" in columns:  # most networks tell none
        quality = columns["qualities"].flatten().to_numpy(zero_copy_only=False)
    return DetectionColumns(
        columns["frame"].to_numpy(),
        columns["scores"].value_lengths().to_numpy(),
        columns["boxes"].flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4),
        scores,
        embeddings,
        motion,
        quality,
    )


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
    ends = np.searchsorted(frame, np.arange(num_frames + 1))
    scores = scores[order]

    def frames() -> Iterator[SavedFrame]:
        for index in range(num_frames):
            part = slice(ends[index], ends[index + 1])
            blind = np.zeros((int(ends[index + 1] - ends[index]), 0), np.float16)
            found = Detections(tlbr[part], scores[part], blind)
            yield SavedFrame(index, index / info.frames_per_second, found)

    return info, frames()


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

"""Detections in files: `detections/*.parquet` of a run, and MOTChallenge `det.txt`.

`detections/*.parquet` holds the detections that a run's association received; no other module
names its columns. Rows of MOT text may be in any order, their ids are ignored, and scores outside
[0, 1] are mapped (`to_scores`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import Detections, FloatArray
from jde_ray.pipelines.config import TrackConfig, parse_score_map
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.mot import read_scored, read_sequence_info, sequence_info_path
from jde_ray.pipelines.formats.parquet_file import (
    binary_array,
    list_array,
    open_parquet,
    vectors_of,
)
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DEFAULT_RATE, Video, VideoInfo

SavedFrame = tuple[int, float, Detections]

# Logistic curves that map raw scores to [0, 1]: midpoint and scale. At the midpoint half of the
# boxes are people, as measured on the public detections (docs/association.md).
SVM_SCORES = (0.25, 0.35)  # margins of DPM, about -1 to 5
BOOST_SCORES = (30.0, 15.0)  # sums of boosted trees such as ACF, about -10 to 150
_MOST_MARGIN = 15.0


@dataclass(frozen=True)
class SavedVideo:
    """Detections of one video.

    Attributes:
        video: The video in which they were found; its tracks get its id.
        root: Folder or `s3://` prefix that holds the file.
        key: Key of the file below `root`: MOT text if it ends in .txt, else Parquet.
    """

    video: Video
    root: str
    key: str

    @property
    def is_text(self) -> bool:
        """Whether it is MOT text."""
        return self.key.lower().endswith(".txt")


def to_scores(raw: FloatArray, score_map: str = "auto") -> FloatArray:
    """Map the raw scores of a detector to [0, 1].

    Args:
        raw: `(n,)` scores of one file.
        score_map: `auto` keeps scores that are in [0, 1] already; others become
            1 / (1 + exp((midpoint - raw) / scale)), with midpoint and scale for margins of a
            support vector machine (DPM) if none is above 15, else for boosted trees (ACF).
            `none` keeps them unchanged; `MIDPOINT/SCALE` sets the curve.

    Returns:
        `(n,)` float32, in the same order.

    Raises:
        ValueError: If the map cannot be parsed, or scores outside [0, 1] remain.

    >>> to_scores(np.array([0.2, 1.0])).tolist(), to_scores(np.array([0.0, 40.0]), "40/10")[1]
    ([0.20000000298023224, 1.0], np.float32(0.5))
    """
    within = not len(raw) or (raw.min() >= 0 and raw.max() <= 1)
    if score_map == "none" or (score_map == "auto" and within):
        if not within:
            raise ValueError(
                f"score-map: got scores {raw.min():g} to {raw.max():g}, expected 0 to 1 without a"
                " map"
            )
        return raw.astype(np.float32)
    if score_map == "auto":
        midpoint, scale = SVM_SCORES if raw.max() <= _MOST_MARGIN else BOOST_SCORES
    else:
        midpoint, scale = parse_score_map(score_map)
    with np.errstate(over="ignore"):
        mapped: FloatArray = (1 / (1 + np.exp((midpoint - raw) / scale))).astype(np.float32)
    return mapped


def read_saved(saved: SavedVideo, config: TrackConfig) -> tuple[VideoInfo, Iterator[SavedFrame]]:
    """Size and rate of a video, and its frames with the detections that the run uses.

    A Parquet file is read row group by row group while the iterator advances.

    Raises:
        ValueError: If MOT text cannot be read, with file and line.
        OSError: If the file cannot be read.
        pyarrow.ArrowException: If it is not a Parquet file.
    """
    info, frames = _read_text(saved, config) if saved.is_text else _read_parquet(saved, config)
    wanted = (frame for frame in frames if frame[0] % config.vid_stride == 0)
    return info, islice(wanted, config.max_frames)


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
    for batch in file.iter_batches(batch_size=256):
        columns = _read_columns({name: batch.column(name) for name in batch.schema.names})
        times = batch.column("time_s").to_numpy()
        ends = np.concatenate([[0], np.cumsum(columns.counts)])
        for row, frame in enumerate(columns.frame):
            own = slice(int(ends[row]), int(ends[row + 1]))
            found = Detections(columns.tlbr[own], columns.scores[own], columns.embeddings[own])
            keep = found.scores > threshold  # as a detector with this threshold does
            yield int(frame), float(times[row]), found if keep.all() else found[keep]


@dataclass(frozen=True)
class _Columns:
    """Columns of F frames with n detections in all, in the file's precision.

    Attributes:
        frame: `(F,)` 0-based frame numbers.
        counts: `(F,)` detections per frame.
        tlbr: `(n, 4)` float32.
        scores: `(n,)` float32.
        embeddings: `(n, D)` float16; D is 0 if the file stores none.
    """

    frame: NDArray[np.int32]
    counts: NDArray[np.int32]
    tlbr: NDArray[np.float32]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float16]


def _read_columns(columns: Mapping[str, pa.Array]) -> _Columns:
    scores = columns["scores"].flatten().to_numpy(zero_copy_only=False)
    embeddings = np.zeros((len(scores), 0), np.float16)
    if "embeddings" in columns:  # a detector without embedder saves none
        embeddings = vectors_of(columns["embeddings"].flatten())
    return _Columns(
        columns["frame"].to_numpy(),
        columns["scores"].value_lengths().to_numpy(),
        columns["boxes"].flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4),
        scores,
        embeddings,
    )


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
            yield index, index / info.frames_per_second, found

    return info, frames()


def detection_schema(embedding_dim: int) -> pa.Schema:
    """Arrow schema of `detections/*.parquet`: one row per frame, even without detections.

    Args:
        embedding_dim: Width D of the float16 embeddings; 0 for no such column.
    """
    box = pa.list_(pa.float32(), 4)
    columns: list[Any] = [("frame", pa.int32()), ("time_s", pa.float64())]
    columns += [("boxes", pa.list_(box)), ("scores", pa.list_(pa.float32()))]
    if embedding_dim:  # Parquet has no values of 0 bytes
        columns.append(("embeddings", pa.list_(pa.binary(2 * embedding_dim))))
    return pa.schema(columns)


def detection_table(frames: Sequence[SavedFrame], embedding_dim: int) -> pa.Table:
    """Rows of successive frames: one per frame; columns hold lists with one item per detection.

    Args:
        frames: Frame number, time in seconds and detections, in the order of frames.
        embedding_dim: Width D of the embeddings; 0 for no such column.
    """
    numbers, times, found = zip(*frames, strict=True)
    tlbr = np.concatenate([one.tlbr for one in found]).astype(np.float32, copy=False)
    scores = np.concatenate([one.scores for one in found]).astype(np.float32)
    lists = {
        "boxes": pa.FixedSizeListArray.from_arrays(pa.array(tlbr.reshape(-1)), 4),
        "scores": pa.array(scores),
    }
    if embedding_dim:
        lists["embeddings"] = binary_array(np.concatenate([one.embeddings for one in found]))
    ends = pa.array(np.cumsum([0, *map(len, found)]), pa.int32())
    columns = {"frame": pa.array(numbers, pa.int32()), "time_s": pa.array(times, pa.float64())}
    columns |= {name: pa.ListArray.from_arrays(ends, values) for name, values in lists.items()}
    schema = detection_schema(embedding_dim)
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


@dataclass(frozen=True)
class DetectionRows:
    """Detections of a sequence, one row each.

    Attributes:
        rows: Frames and boxes; ids are row numbers.
        scores: `(n,)` unchanged from the file.
        embeddings: `(n, D)` float16; None if the file has none.
    """

    rows: BoxRows
    scores: FloatArray
    embeddings: FloatArray | None


def read_detections(path: Path) -> DetectionRows:
    """Read detections from a file of `detections/` or from a MOT `det.txt`.

    Raises:
        ValueError: If they cannot be read, in one line with the file.
    """
    if path.suffix != ".parquet":
        scored = read_scored(path)
        return DetectionRows(_numbered(scored.rows), scored.scores, None)
    try:
        names = ["frame", "boxes", "scores"]
        has_embeddings = "embeddings" in pq.read_schema(path).names
        table = pq.read_table(path, columns=names + ["embeddings"] * has_embeddings)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a file of detections/ ({reason})") from error
    columns = _read_columns({n: table.column(n).combine_chunks() for n in table.column_names})
    frame = np.repeat(columns.frame.astype(np.int64), columns.counts)
    tlbr, scores = columns.tlbr.astype(np.float64), columns.scores.astype(np.float64)
    if not (np.isfinite(tlbr).all() and np.isfinite(scores).all()):
        raise ValueError(f"{path}: got NaN or Inf, expected finite boxes and scores")
    embeddings = columns.embeddings if has_embeddings else None
    return DetectionRows(BoxRows(frame, np.arange(len(scores)), tlbr), scores, embeddings)


def readable(table: pa.Table) -> pa.Table:
    """A file's table with one row per detection, corners as columns and embeddings as lists.

    Args:
        table: Table of a file of `detections/`; the result has no row for empty frames.
    """
    columns = _read_columns({n: table.column(n).combine_chunks() for n in table.column_names})
    arrays = {
        name: pa.array(np.repeat(table.column(name).to_numpy(), columns.counts))
        for name in ("frame", "time_s")
    }
    corners = {name: columns.tlbr[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
    arrays |= {name: pa.array(np.ascontiguousarray(v)) for name, v in corners.items()}
    arrays["score"] = pa.array(columns.scores)
    if "embeddings" in table.column_names:
        arrays["embedding"] = list_array(columns.embeddings)
    return pa.table(arrays)


def _numbered(rows: BoxRows) -> BoxRows:
    return BoxRows(rows.frame, np.arange(len(rows)), rows.tlbr)

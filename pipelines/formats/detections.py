"""Detections as data: files of `detections/`, and MOTChallenge `det.txt`, as chunks of frames.

`detections/*.parquet` holds what a run's association saw. Of MOT text everything from the
detector counts: rows in any order, ids are not looked at, and scores that are no shares are mapped
(see `to_scores`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jde_ray.models.structures import Detections, FloatArray
from jde_ray.pipelines.config import TrackConfig, parse_score_map
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.mot import read_scored, read_sequence_info
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DetectionChunk, Segment, Video, VideoInfo
from jde_ray.pipelines.video.image_folder import DEFAULT_RATE
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SavedFrame = tuple[int, float, Detections]

# Raw scores to [0, 1]: midpoint and scale of a logistic curve. At the midpoint half of the boxes
# are people, by what was measured on the public detections (docs/association.md).
SVM_SCORES = (0.25, 0.35)  # margins of DPM, about -1 to 5
BOOST_SCORES = (30.0, 15.0)  # sums of boosted trees such as ACF, about -10 to 150
_MOST_MARGIN = 15.0


@dataclass(frozen=True)
class SavedVideo:
    """Detections of one video.

    Attributes:
        video: Whose; its tracks go by its id.
        root: Folder or `s3://` prefix.
        key: Of the file below it: Parquet, or MOT text if it ends in .txt.
    """

    video: Video
    root: str
    key: str

    @property
    def is_text(self) -> bool:
        """Whether it is MOT text."""
        return self.key.lower().endswith(".txt")


def to_scores(raw: FloatArray, score_map: str = "auto") -> FloatArray:
    """Scores in [0, 1] of what a detector says.

    Args:
        raw: `(n,)` of one file.
        score_map: `auto` leaves scores in [0, 1] as they are; others become
            1 / (1 + exp((midpoint - raw) / scale)), with midpoint and scale for margins of a
            support vector machine (DPM) if none is above 15, else for boosted trees (ACF).
            `none` takes them as they are; `MIDPOINT/SCALE` says the curve.

    Returns:
        `(n,)` float32, in the same order.

    Raises:
        ValueError: If the map cannot be read, or scores outside [0, 1] are left.

    >>> to_scores(np.array([0.2, 1.0])).tolist(), to_scores(np.array([0.0, 40.0]), "40/10")[1]
    ([0.20000000298023224, 1.0], np.float32(0.5))
    """
    within = not len(raw) or (raw.min() >= 0 and raw.max() <= 1)
    if score_map == "none" or (score_map == "auto" and within):
        if not within:
            raise ValueError(
                f"score-map: got scores {raw.min():g} to {raw.max():g}, accepted without a map is"
                " 0 to 1"
            )
        return raw.astype(np.float32)
    if score_map == "auto":
        midpoint, scale = SVM_SCORES if raw.max() <= _MOST_MARGIN else BOOST_SCORES
    else:
        midpoint, scale = parse_score_map(score_map)
    with np.errstate(over="ignore"):
        mapped: FloatArray = (1 / (1 + np.exp((midpoint - raw) / scale))).astype(np.float32)
    return mapped


def saved_chunks(
    saved: SavedVideo, segment: Segment, config: TrackConfig, chunk_frames: int
) -> Iterator[DetectionChunk]:
    """Chunks of a video's detections, as a detector would deliver them.

    Never raises: an error is the last chunk, as in `pipelines.video.chunks.decode_segment`.

    Args:
        saved: Where they are.
        segment: Which video and attempt, and the first frame that is not associated yet.
        config: Stride, frame limit, least score and score map.
        chunk_frames: T, the frames of a chunk; the last one may have fewer.
    """
    number = segment.start_frame // (chunk_frames * config.vid_stride)
    try:
        info, frames = read_saved(saved, config)
        batch: list[SavedFrame] = []
        for frame in frames:
            if frame[0] < segment.start_frame:
                continue
            if len(batch) == chunk_frames:
                yield _chunk(segment, number, info, batch, is_last=False)
                number, batch = number + 1, []
            batch.append(frame)
        yield _chunk(segment, number, info, batch, is_last=True)
    except Exception as error:  # noqa: BLE001  the contract: an error is a row, never an end
        yield _chunk(segment, number, VideoInfo(0, 0, 0.0), [], is_last=True, error=_known(error))


def read_saved(saved: SavedVideo, config: TrackConfig) -> tuple[VideoInfo, Iterator[SavedFrame]]:
    """Size and rate of a video, and its frames with their detections as the run looks at them.

    Raises:
        ValueError: If MOT text cannot be read, with file and line.
        OSError: If the file cannot be read.
        pyarrow.ArrowException: If it is no Parquet file.

    A file of a run is read row group by row group while its frames are taken.
    """
    info, frames = _read_text(saved, config) if saved.is_text else _read_parquet(saved, config)
    wanted = (frame for frame in frames if frame[0] % config.vid_stride == 0)
    return info, islice(wanted, config.max_frames)


def _read_parquet(saved: SavedVideo, config: TrackConfig) -> tuple[VideoInfo, Iterator[SavedFrame]]:
    file = open_parquet(open_store(saved.root), saved.key)
    known = file.metadata.metadata or {}
    if b"frames_per_second" not in known or "boxes" not in file.schema_arrow.names:
        raise ValueError(f"{saved.key}: no detections of a run (--save-detections)")
    width, height = int(known[b"width"]), int(known[b"height"])
    rate, num_frames = float(known[b"frames_per_second"]), file.metadata.num_rows
    info = VideoInfo(width, height, rate, num_frames * config.vid_stride)
    return info, _frames_of(file, np.float32(config.detection.threshold))


def _frames_of(file: pq.ParquetFile, threshold: np.float32) -> Iterator[SavedFrame]:
    width = 0  # of a detector of boxes alone, which saves no embeddings
    if "embeddings" in file.schema_arrow.names:
        width = file.schema_arrow.field("embeddings").type.value_type.byte_width // 2
    for batch in file.iter_batches(batch_size=256):
        columns = {name: batch.column(name) for name in batch.schema.names}
        boxes = columns["boxes"].flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
        scores = columns["scores"].flatten().to_numpy(zero_copy_only=False)
        embeddings = np.zeros((len(scores), 0), np.float16)
        if width:
            embeddings = _embeddings(columns["embeddings"].flatten(), width)
        ends = np.concatenate([[0], np.cumsum(columns["scores"].value_lengths().to_numpy())])
        times = columns["time_s"].to_numpy()
        for row, frame in enumerate(columns["frame"].to_numpy()):
            part = slice(int(ends[row]), int(ends[row + 1]))
            found = Detections(boxes[part], scores[part], embeddings[part])
            keep = found.scores > threshold  # as a detector of this threshold hands over
            yield int(frame), float(times[row]), found if keep.all() else found[keep]


def _embeddings(column: pa.Array, width: int) -> NDArray[np.float16]:
    """`(n, D)` of a column of fixed-size binary."""
    if not width or not len(column):
        return np.zeros((len(column), width), np.float16)
    content = np.frombuffer(column.buffers()[1], np.float16).reshape(-1, width)
    return content[column.offset : column.offset + len(column)]


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


def sequence_info_path(text: Path) -> Path | None:
    """The `seqinfo.ini` of MOT text: of `NAME/det/det.txt` in NAME, else beside the file."""
    folder = text.parent.parent if text.parent.name == "det" else text.parent
    return folder / "seqinfo.ini" if (folder / "seqinfo.ini").is_file() else None


def recorded_video(saved: pq.FileMetaData) -> Video | None:
    """The video that a file of `detections/` says it is of."""
    text = (saved.metadata or {}).get(b"source")
    return None if text is None else Video(**json.loads(text))


def _chunk(
    segment: Segment,
    number: int,
    info: VideoInfo,
    frames: list[SavedFrame],
    *,
    is_last: bool,
    error: VideoError | None = None,
) -> DetectionChunk:
    return DetectionChunk(
        video_id=segment.video.video_id,
        attempt=segment.attempt,
        chunk_index=number,
        frame_index=np.array([index for index, _, _ in frames], np.int64),
        time_s=np.array([time_s for _, time_s, _ in frames], np.float64),
        info=info,
        is_last=is_last,
        detections=[found for _, _, found in frames],
        error=error,
    )


def _known(error: Exception) -> VideoError:
    """What stands in the video's error record."""
    if isinstance(error, VideoError):
        return error
    if isinstance(error, FileNotFoundError):
        return VideoError(Reason.NOT_FOUND, str(error))
    if isinstance(error, ValueError | pa.ArrowException):  # ArrowInvalid is both
        return VideoError(Reason.UNSUPPORTED_FORMAT, str(error))
    if isinstance(error, OSError):
        return VideoError(Reason.STORAGE, str(error))
    logger.error("reading detections failed", exc_info=error)
    return VideoError(Reason.INTERNAL, f"{type(error).__name__}: {error}")

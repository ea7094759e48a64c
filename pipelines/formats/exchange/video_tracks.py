"""The tracks of one video as the writers of other tools' files take them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.tracks import file_name, read_scored_tracks, track_schema

PERSON = "person"
PIXEL_DIGITS, SHARE_DIGITS, SCORE_DIGITS = 2, 6, 4
FACTS = ("size", "rate", "frames", "time")  # what a format may need to know of a video
_LATER = ("camera", "time", "class")  # columns that files of former row formats lack
_KEYS = {"size": "width and height", "rate": "frames_per_second", "frames": "num_frames"}


@dataclass(frozen=True)
class Choices:
    """What a user chose for the files of a format.

    Attributes:
        scores: MOT text has the score in column 7, instead of 1.
        track_ids: YOLO labels end with the track id.
    """

    scores: bool = False
    track_ids: bool = True


@dataclass(frozen=True)
class VideoTracks:
    """All rows of a video, sorted by frame and id, and what is known of it.

    Attributes:
        name: Name of its files, unique in a conversion; legal as a file name.
        uri: Address of the video as given; empty if unknown, as for a video without rows.
        size: Width and height in pixels; 0 if unknown.
        rate: Nominal frames per second; 0 if unknown.
        num_frames: Frames that were processed; 0 if unknown.
        stride: Every n-th frame was processed.
        frame: `(n,)` 0-based source frames.
        track_id: `(n,)` ids.
        tlbr: `(n, 4)` float64 corners in source pixels.
        score: `(n,)` in [0, 1].
        time_s: `(n,)` presentation times in seconds; NaN if unknown.
        label: `(n,)` class of each row.
        table: The rows as they are in the file; None for MOT text.
    """

    name: str
    uri: str
    size: tuple[int, int]
    rate: float
    num_frames: int
    stride: int
    frame: IntArray
    track_id: IntArray
    tlbr: FloatArray
    score: FloatArray
    time_s: FloatArray
    label: NDArray[np.object_]
    table: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def title(self) -> str:
        """File name of the video, or `name` if it is unknown."""
        return file_name(self.uri) or self.name

    @property
    def length(self) -> int:
        """Source frames from the first to the last processed one."""
        return max(0, (self.num_frames - 1) * self.stride + 1)

    @property
    def duration_s(self) -> float:
        """Seconds that the processed frames cover; 0 if the rate is unknown."""
        return self.num_frames * self.stride / self.rate if self.rate else 0.0

    @property
    def frames(self) -> range:
        """The processed source frames, also those without people."""
        return range(0, self.length, self.stride)

    @property
    def shares(self) -> FloatArray:
        """`(n, 4)` corners relative to width and height."""
        return self.tlbr / np.array([*self.size, *self.size], np.float64)

    def tracks(self) -> Iterator[tuple[int, str, IntArray]]:
        """Id, class and `(k,)` rows, in the order of frames, of every track, by id."""
        order = np.lexsort((self.frame, self.track_id))
        edges = np.flatnonzero(np.diff(self.track_id[order])) + 1
        for rows in np.split(order, edges) if len(order) else ():
            yield int(self.track_id[rows[0]]), str(self.label[rows[0]]), rows

    def rows_by_frame(self) -> Iterator[tuple[int, range]]:
        """Every processed frame and its rows."""
        frames = np.arange(0, self.length, self.stride)
        low = np.searchsorted(self.frame, frames)
        high = np.searchsorted(self.frame, frames, "right")
        for frame, first, last in zip(self.frames, low.tolist(), high.tolist(), strict=True):
            yield frame, range(first, last)

    def clipped(self) -> tuple[VideoTracks, int, int]:
        """The boxes cut off at the picture's border.

        Returns:
            The rows whose box overlaps the picture, the number of boxes that were cut off, and of
            those left out because nothing of them lies in the picture.
        """
        width, height = self.size
        inside = np.clip(self.tlbr, 0, np.array([width, height, width, height], np.float64))
        kept = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
        num_cut = int((kept & (inside != self.tlbr).any(axis=1)).sum())
        cut = replace(self, tlbr=inside)
        return cut._only(kept), num_cut, int((~kept).sum())

    def _only(self, kept: NDArray[np.bool_]) -> VideoTracks:
        names = ("frame", "track_id", "tlbr", "score", "time_s", "label")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


def read_video_tracks(path: Path, name: str, stride: int, needs: tuple[str, ...]) -> VideoTracks:
    """Read the tracks of a video, of any row format; camera and class if the file has them.

    Args:
        path: File of `tracks/`, or MOT text.
        name: Name for the files of this video.
        stride: The run processed every n-th frame.
        needs: Facts (`FACTS`) without which the video cannot be converted.

    Raises:
        ValueError: If the file cannot be read, or lacks such a fact, in one line that names it.
    """
    rows, scores = read_scored_tracks(path)
    table, facts = None, FileFacts({})
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        names = dict.fromkeys((*track_schema().names, *_LATER))
        table = file.read(columns=[name for name in names if name in file.schema_arrow.names])
        facts = FileFacts.of(file.metadata)
    size, rate, num_frames = _facts(path, facts)
    order = np.lexsort((rows.track_id, rows.frame))
    times = _column(table, "time_s")
    if times is None:
        times = rows.frame / rate if rate else np.full(len(rows), np.nan)
    last = int(rows.frame.max()) // stride + 1 if len(rows) else 0
    video = VideoTracks(
        name,
        _first(table, "video") or "",
        size,
        rate,
        max(num_frames, last) if num_frames else 0,
        stride,
        rows.frame[order],
        rows.track_id[order],
        rows.tlbr[order],
        scores[order],
        np.asarray(times, np.float64)[order],
        _labels(table, len(rows))[order],
        table,
    )
    _check(path, video, needs)
    return video


def _facts(path: Path, facts: FileFacts) -> tuple[tuple[int, int], float, int]:
    """Size, rate and number of frames; zeros for those that the file does not say."""
    try:
        size = facts.size if b"width" in facts.metadata else (0, 0)
        rate = facts.frames_per_second if facts.has_frame_rate else 0.0
        num_frames = facts.num_frames if b"num_frames" in facts.metadata else 0
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: its metadata cannot be read ({error})") from error
    return size, rate if 0 < rate < np.inf else 0.0, num_frames


def _check(path: Path, video: VideoTracks, needs: tuple[str, ...]) -> None:
    known = {
        "size": min(video.size) > 0,
        "rate": video.rate > 0,
        "frames": video.num_frames > 0 or (not len(video) and path.suffix == ".parquet"),
        "time": bool(np.isfinite(video.time_s).all()),
    }
    for need in needs:
        if not known[need]:
            missing = _KEYS.get(need, "time_s")
            where = "column" if need == "time" else "metadata"
            raise ValueError(
                f"{path}: no {missing} in its {where}, which this format needs; "
                "mot and csv do without"
            )


def _column(table: pa.Table | None, name: str) -> NDArray[Any] | None:
    if table is None or name not in table.column_names:
        return None
    values: NDArray[Any] = table.column(name).to_numpy()
    return values


def _first(table: pa.Table | None, name: str) -> str | None:
    """A text that is the same in all rows; None if there is no row, column or value."""
    if table is None or name not in table.column_names or not len(table):
        return None
    value = table.column(name)[0].as_py()
    return None if value is None else str(value)


def _labels(table: pa.Table | None, count: int) -> NDArray[np.object_]:
    """Class of each row; `person` where the file does not say."""
    labels = np.full(count, PERSON, object)
    if table is not None and "class" in table.column_names:
        given = np.array(table.column("class").to_pylist(), object)
        known = np.array([value is not None for value in given], bool)
        labels[known] = given[known]
    return labels


def rounded(values: FloatArray, digits: int) -> list[Any]:
    """Values as Python numbers with this many decimals, without negative zeros."""
    plain: list[Any] = (np.round(values, digits) + 0.0).tolist()
    return plain


def to_json(value: Any) -> str:
    """Compact JSON in one line; letters of all languages are kept."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json_file(value: Any) -> bytes:
    """A JSON file, in UTF-8. Halves of surrogate pairs become `?`."""
    return f"{to_json(value)}\n".encode("utf-8", "replace")

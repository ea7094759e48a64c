"""The frames of a video that a run with `--max-frames` or `--vid-stride` processed.

Evaluation uses only these frames, so that people in the others do not count as missed.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import IntArray
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.names import sequence_name
from jde_ray.pipelines.output.layout import RUN_KEY, tracks_key
from jde_ray.pipelines.output.run_record import frame_limits, parse_record


@dataclass(frozen=True)
class FramesSeen:
    """Every `stride`-th frame from the first one, `number` of them; None for all to the end."""

    number: int | None
    stride: int

    def truth(self, whole: GroundTruth) -> GroundTruth:
        """The ground truth of these frames only."""
        people, ignore, other = (
            self._has(rows.frame) for rows in (whole.people, whole.ignore, whole.other)
        )
        return GroundTruth(
            whole.people[people], whole.visibility[people], whole.ignore[ignore], whole.other[other]
        )

    def rows(self, whole: BoxRows) -> BoxRows:
        """The rows of these frames only."""
        return whole[self._has(whole.frame)]

    def has(self, frame: int) -> bool:
        """Whether the frame with this number (from 0) is one of them."""
        return len(self._has(np.array([frame]))) == 1

    def _has(self, frames: IntArray) -> IntArray:
        seen = frames % self.stride == 0
        if self.number is not None:
            seen &= frames < self.number * self.stride
        return np.flatnonzero(seen)

    def __str__(self) -> str:
        every = "" if self.stride == 1 else f"1 of {self.stride} frames"
        first = "" if self.number is None else f"the first {self.number}"
        return ", ".join(part for part in (every, first) if part)


def frames_seen(path: Path) -> FramesSeen | None:
    """The frames that a run processed for one of its files.

    Args:
        path: A file of `tracks/`, `detections/` or `mot/` in OUT, or any other file.

    Returns:
        None for all frames, also if there is no `run.json`.

    Raises:
        ValueError: If `run.json` cannot be read, in one line.
    """
    record = path.resolve().parent.parent / RUN_KEY
    if not record.is_file():
        return None
    try:
        stride, most = frame_limits(parse_record(record.read_bytes())["config"])
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{record}: not the record of a run ({reason})") from error
    return limited(_number_of(path, record.parent, most), stride, most)


def limited(number: int | None, stride: int, most: int | None) -> FramesSeen | None:
    """The frames of a video that the settings select; None for all.

    Args:
        number: Number of processed frames; None if unknown.
        stride: Every n-th frame is processed.
        most: `--max-frames`; a video with fewer frames was processed to its end.
    """
    has_ended = most is None or (number is not None and number < most)
    left = None if has_ended else most
    return None if left is None and stride == 1 else FramesSeen(left, stride)


def _number_of(path: Path, out: Path, most: int | None) -> int | None:
    if most is None:
        return None
    ids = [path.stem]
    if path.suffix == ".txt":  # text that has the plain name of its video
        beside = (out / tracks_key(path.stem)).parent.glob(f"{glob.escape(path.stem)}-*.parquet")
        ids += [file.stem for file in beside if sequence_name(file.stem) == path.stem]
    for file in (path, *(out / tracks_key(own) for own in ids)):
        if file.suffix == ".parquet" and file.is_file():
            try:
                return FileFacts.of(pq.read_metadata(file)).num_frames
            except (pa.ArrowException, OSError, KeyError, ValueError):
                continue
    return None

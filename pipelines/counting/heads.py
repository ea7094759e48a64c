"""What the end of a file of `tracks/` says, without its rows. Works without Ray."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from jde_ray.pipelines.errors import one_line
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.parquet_file import is_damage
from jde_ray.pipelines.formats.sightings import Origin, read_origin
from jde_ray.pipelines.storage.stores import open_store


@dataclass(frozen=True)
class Head:
    """What the end of a file says, without its rows.

    Attributes:
        file: Its address.
        video_id: Id of its video.
        origin: Video, camera and start.
        size: Width and height of the picture in pixels; None if unknown.
        num_rows: Number of rows.
        length_s: Length of the recording by its frames; 0 if unknown.
        fingerprint: Digits that differ between files of different rows or metadata: a hash of the
            file's end, which has size and extremes of each column.
    """

    file: str
    video_id: str
    origin: Origin = field(repr=False)
    size: tuple[int, int] | None
    num_rows: int
    length_s: float
    fingerprint: str


@dataclass(frozen=True)
class Failure:
    """A file that was not counted.

    Attributes:
        file: Its address.
        reason: Why, in one line.
        is_passing: Whether another attempt may succeed, since a store did not answer.
    """

    file: str
    reason: str
    is_passing: bool = False


def read_head(file: str, stride: int) -> Head | Failure:
    """Read the end of a file.

    Args:
        file: Its address, local or in an object store.
        stride: The run processed every n-th frame.
    """
    video_id = file.rpartition("/")[2].removesuffix(".parquet")
    try:
        with opened(file) as parquet:
            origin = read_origin(parquet, video_id)
            facts = FileFacts.of(parquet.metadata)
            size, length_s = _size_and_length(facts, stride)
            rows = parquet.metadata.num_rows
            return Head(file, video_id, origin, size, rows, length_s, _fingerprint(file))
    except (OSError, ValueError, pa.ArrowException) as error:
        return failure_of(file, error)


def _size_and_length(facts: FileFacts, stride: int) -> tuple[tuple[int, int] | None, float]:
    try:
        size: tuple[int, int] | None = facts.size
        if size is not None and not min(size) > 0:
            size = None
    except KeyError:
        size = None
    try:
        length_s = facts.num_frames * stride / facts.frames_per_second
    except (KeyError, ZeroDivisionError):
        length_s = 0.0
    return size, length_s if 0 <= length_s < 1e9 else 0.0


def _fingerprint(file: str) -> str:
    with _raw(file) as content:
        content.seek(-8, os.SEEK_END)
        length = int.from_bytes(content.read(4), "little")
        content.seek(-8 - length, os.SEEK_END)
        return hashlib.sha256(content.read(length)).hexdigest()[:16]


def _raw(file: str) -> BinaryIO:
    place, _, name = file.rpartition("/")
    return open_store(place).open(name) if "://" in file else Path(file).open("rb")


@contextmanager
def opened(file: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file at a local address or in an object store; only what is read is fetched."""
    source: Any = _raw(file) if "://" in file else file
    with pq.ParquetFile(source, pre_buffer=False) as parquet:
        yield parquet


def failure_of(file: str, error: Exception) -> Failure:
    """The failure of a file; damage is lasting, errors of the system or the store are not."""
    is_of_arrow = is_damage(error)
    is_lasting = is_of_arrow or (isinstance(error, ValueError) and not isinstance(error, OSError))
    kind = "not a readable Parquet file: " if is_of_arrow else ""
    return Failure(file, one_line(f"{kind}{error or type(error).__name__}"), not is_lasting)

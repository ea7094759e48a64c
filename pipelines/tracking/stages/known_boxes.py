"""The stages that run a network on labelled frames: decode them, then read at their people's boxes.

The network runs in the same `Detector` as in `stages.detect`; its readings go to the driver, since
nothing is associated.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.known_boxes import (
    LabelledFrames,
    Readings,
    of_frames,
    read_chunk,
)
from jde_ray.pipelines.detection.networks import ModelBuilder
from jde_ray.pipelines.errors import VideoError, error_from_dict, error_to_dict
from jde_ray.pipelines.structures import FrameChunk, Segment, VideoInfo
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.decode import Decoder, frame_chunks
from jde_ray.pipelines.video.containers import to_video_error
from jde_ray.pipelines.video.image_folder import read_image_file

logger = logging.getLogger(__name__)

PICTURES_PER_ROW = 64  # that one task reads
_ARRAYS = ("sizes", "scores", "vectors")
_ROWS = ("found", "known")

LabelledChunk = tuple[FrameChunk, list[BoxRows]]  # and the people of each of its frames


def labelled_rows(sets: Sequence[LabelledFrames]) -> list[dict[str, Any]]:
    """Input rows of the dataset: a video, or some pictures, one decode task each, with people."""
    rows = []
    for one in sets:
        if one.video is not None:
            segment = wire_format.segments_to_row([Segment(one.video)])
            rows.append({**segment, "pictures": "", "people": _to_bytes(one.people)})
        for first in range(0, len(one.pictures), PICTURES_PER_ROW):
            part = one.pictures[first : first + PICTURES_PER_ROW]
            own = (one.people.frame >= first) & (one.people.frame < first + len(part))
            pictures = json.dumps({"key": one.key, "first": first, "paths": part})
            people = _to_bytes(one.people[own])
            rows.append({"segments": "", "pictures": pictures, "people": people})
    return rows


def _to_bytes(rows: BoxRows) -> bytes:
    content = io.BytesIO()
    np.savez(content, **vars(rows))
    return content.getvalue()


def _from_bytes(content: bytes) -> BoxRows:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return BoxRows(**arrays)


def decode_labelled(
    decode: Decoder, config: TrackConfig, resources: ResourceConfig, table: pa.Table
) -> Iterator[pa.Table]:
    """Chunks of one row of `labelled_rows`, one row each, with the people of their frames.

    Args:
        decode: Called as `pipelines.video.chunks.decode_segment`.
        config: Input size, resizing, stride and frame limit.
        resources: Frames per chunk.
        table: One row.

    Yields:
        Tables of one row, `wire_format.FRAME_SCHEMA` and a column `people`.
    """
    (row,) = table.to_pylist()
    for chunk, people in labelled_chunks(decode, row, config, resources):
        rows = BoxRows.concatenate([BoxRows.empty(), *people])
        column = pa.array([_to_bytes(rows)], pa.large_binary())
        yield wire_format.frames_to_table([chunk]).append_column("people", column)


def labelled_chunks(
    decode: Decoder, row: dict[str, Any], config: TrackConfig, resources: ResourceConfig
) -> Iterator[LabelledChunk]:
    """Chunks of a row of `labelled_rows` and their people, in source pixels.

    The arguments are those of `decode_labelled`.
    """
    people = _from_bytes(row["people"])
    if row["pictures"]:
        values = json.loads(row["pictures"])
        for chunk in picture_chunks(**values, config=config, resources=resources):
            size = np.array([chunk.info.width, chunk.info.height] * 2)
            rows = of_frames(people, chunk.frame_index)
            yield chunk, [BoxRows(one.frame, one.track_id, one.tlbr * size) for one in rows]
        return
    (segment,) = wire_format.segments_from_table(pa.table({"segments": [row["segments"]]}))
    for chunk in frame_chunks(decode, segment, config, resources):
        yield chunk, of_frames(people, chunk.frame_index)


def picture_chunks(
    key: str, first: int, paths: Sequence[str], config: TrackConfig, resources: ResourceConfig
) -> Iterator[FrameChunk]:
    """Chunks of pictures; those of a chunk have one size, and are in the order of the list.

    Pictures are read upright, as labels of pictures mean them. An unreadable one ends the set: its
    error is the last chunk.

    Args:
        key: Name of the set.
        first: Number of the first picture.
        paths: The pictures.
        config: Input size, and whether it follows each picture's shape.
        resources: Frames per chunk.
    """
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray[Any, Any]]]] = {}

    def chunk(size: tuple[int, int], error: VideoError | None = None) -> FrameChunk:
        taken = waiting.pop(size, [])
        empty = np.zeros((0, 32, 32, 3), np.uint8)
        return FrameChunk(
            video_id=key,
            attempt=0,
            chunk_index=taken[0][0] if taken else first,
            frame_index=np.array([number for number, _ in taken], np.int64),
            time_s=np.zeros(len(taken)),
            frames=np.stack([pixels for _, pixels in taken]) if taken else empty,
            info=VideoInfo(*size, 1.0),
            is_last=error is not None,
            error=error,
        )

    detection = config.detection
    for number, path in enumerate(paths, first):
        try:
            picture = read_image_file(Path(path), number, apply_orientation=True)
        except (VideoError, OSError) as failure:
            error = to_video_error(failure, number)
            yield chunk((0, 0), VideoError(error.reason, f"{path}: {error.detail}", number))
            return
        size = (picture.shape[1], picture.shape[0])
        network = fitted_size(*size, detection.size) if detection.rect else detection.size
        waiting.setdefault(size, []).append((number, Letterbox(*size, *network).apply(picture)))
        if len(waiting[size]) == resources.chunk_frames:
            yield chunk(size)
    for size in list(waiting):
        yield chunk(size)


class KnownBoxStage:
    """A `Detector` as an actor of the pool that reads at the boxes of people.

    Args:
        config: Settings of the network and of its detections.
        resources: Device and threads.
        build_model: Loads the network.
    """

    def __init__(
        self, config: DetectionConfig, resources: ResourceConfig, build_model: ModelBuilder
    ) -> None:
        self._detector = Detector(config, resources, build_model)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The readings of one row of chunks."""
        (chunk,), _ = wire_format.frames_from_table(table)
        people = _from_bytes(table.column("people")[0].as_py())
        try:
            rows = of_frames(people, chunk.frame_index)
            readings = read_chunk(self._detector, chunk, rows)
        except ValueError:  # the network cannot do what it is asked: the same in every actor
            raise
        except Exception:
            logger.exception("the device is broken; Ray restarts this detector")
            os._exit(1)
        return readings_to_table(chunk.video_id, readings)


def readings_to_table(key: str, readings: Readings) -> pa.Table:
    """One row of the dataset: the readings of a set's frames, as npz."""
    content = io.BytesIO()
    np.savez(content, **{name: getattr(readings, name) for name in _ARRAYS})
    values: dict[str, Any] = {
        "key": key,
        "error": json.dumps(error_to_dict(readings.error)),
        "arrays": content.getvalue(),
        **{name: _to_bytes(getattr(readings, name)) for name in _ROWS},
    }
    schema = [("key", pa.string()), ("error", pa.string())]
    binary = [(name, pa.large_binary()) for name in ("arrays", *_ROWS)]
    return pa.Table.from_pylist([values], schema=pa.schema([*schema, *binary]))


def readings_of_row(row: dict[str, Any]) -> tuple[str, Readings]:
    """Inverse of `readings_to_table`, from the values of a row."""
    with np.load(io.BytesIO(row["arrays"]), allow_pickle=False) as arrays:
        values: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    values |= {name: _from_bytes(row[name]) for name in _ROWS}
    return row["key"], Readings(**values, error=error_from_dict(json.loads(row["error"])))

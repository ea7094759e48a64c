"""Chunks as they travel: frames as a one-row Arrow table, detections as a few flat arrays.

Arrow and npz only, never pickle; the pixels are not copied on the way in or out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.structures import Detections
from pipelines.errors import Reason, VideoError
from pipelines.schema import (
    DetectionChunk,
    FrameChunk,
    Keyframe,
    Segment,
    Video,
    VideoInfo,
)

FRAME_SCHEMA = pa.schema(
    [
        ("header", pa.string()),  # JSON: whose, which, is_last, geometry, error
        ("frame_index", pa.list_(pa.int64())),
        ("time_s", pa.list_(pa.float64())),
        ("shape", pa.list_(pa.int32(), 4)),
        ("frames", pa.large_binary()),
        ("decode_s", pa.float64()),
    ]
)
Packed = dict[str, Any]  # flat arrays under their names, and "header", a JSON text


def error_to_dict(error: VideoError | None) -> dict[str, Any] | None:
    """Plain values of an error: reason, detail, frame."""
    if error is None:
        return None
    return {"reason": str(error.reason), "detail": error.detail, "frame": error.frame}


def error_from_dict(values: dict[str, Any] | None) -> VideoError | None:
    """Inverse of `error_to_dict`."""
    if values is None:
        return None
    return VideoError(Reason(values["reason"]), values["detail"], values["frame"])


def segments_to_row(segments: Sequence[Segment]) -> dict[str, str]:
    """An input row of the dataset: the segments that one task decodes."""
    return {"segments": json.dumps([asdict(segment) for segment in segments])}


def segments_from_table(table: pa.Table) -> list[Segment]:
    """Inverse of `segments_to_row`, from a batch of one row."""
    return [_segment(values) for values in json.loads(table.column("segments")[0].as_py())]


def _segment(values: dict[str, Any]) -> Segment:
    seek = values["seek"]
    known = {"video": Video(**values["video"]), "seek": None if seek is None else Keyframe(**seek)}
    return Segment(**values | known)


def _header(chunk: FrameChunk | DetectionChunk) -> dict[str, Any]:
    names = ("video_id", "attempt", "chunk_index", "is_last", "num_damaged")
    values = {name: getattr(chunk, name) for name in names}
    return values | {"info": vars(chunk.info), "error": error_to_dict(chunk.error)}


def _from_header(text: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text)
    values["info"] = VideoInfo(**values["info"])
    values["error"] = error_from_dict(values["error"])
    return values


def frames_to_table(chunk: FrameChunk, decode_s: float = 0.0) -> pa.Table:
    """One row of the dataset; its buffer is the chunk's own memory.

    Args:
        chunk: What the decoder yields.
        decode_s: Seconds it took, for the statistics.
    """
    pixels = np.ascontiguousarray(chunk.frames)
    offsets = np.array([0, pixels.nbytes], np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(pixels.reshape(-1))]
    columns = [
        pa.array([json.dumps(_header(chunk))]),
        pa.array([chunk.frame_index], FRAME_SCHEMA.field("frame_index").type),
        pa.array([chunk.time_s], FRAME_SCHEMA.field("time_s").type),
        pa.array([list(pixels.shape)], FRAME_SCHEMA.field("shape").type),
        pa.Array.from_buffers(pa.large_binary(), 1, buffers),
        pa.array([decode_s]),
    ]
    return pa.Table.from_arrays(columns, schema=FRAME_SCHEMA)


def frames_from_table(table: pa.Table) -> tuple[FrameChunk, float]:
    """Inverse of `frames_to_table`; the frames are a read-only view of the table's memory."""
    if table.num_rows != 1:
        raise ValueError(f"chunks: got {table.num_rows} rows in a batch, accepted is 1")
    row = {name: table.column(name)[0] for name in FRAME_SCHEMA.names if name != "frames"}
    column = table.column("frames").chunk(0)  # a scalar or combined chunks would be a copy
    _, ends, content = column.buffers()
    start, end = np.frombuffer(ends, np.int64)[column.offset : column.offset + 2]
    pixels = np.frombuffer(content, np.uint8)[start:end]
    chunk = FrameChunk(
        frame_index=np.array(row["frame_index"].as_py(), np.int64),
        time_s=np.array(row["time_s"].as_py(), np.float64),
        frames=pixels.reshape(row["shape"].as_py()),
        **_from_header(row["header"].as_py()),
    )
    return chunk, row["decode_s"].as_py()


def pack(chunk: DetectionChunk) -> Packed:
    """Flat arrays of all frames behind one another, which travel cheaper than one by one."""
    found = chunk.detections
    width = found[0].embeddings.shape[1] if found else 0
    empty = [Detections.empty(width)]
    return {
        "header": json.dumps(_header(chunk) | {"num_capped": chunk.num_capped}),
        "frame_index": chunk.frame_index,
        "time_s": chunk.time_s,
        "lengths": np.array([len(d) for d in found], np.int64),
        "tlbr": np.concatenate([d.tlbr for d in found or empty]).astype(np.float32),
        "scores": np.concatenate([d.scores for d in found or empty]).astype(np.float32),
        "embeddings": np.concatenate([d.embeddings for d in found or empty]).astype(np.float16),
    }


def unpack(packed: Packed) -> DetectionChunk:
    """Inverse of `pack`."""
    ends = np.cumsum(packed["lengths"])
    parts = zip(ends - packed["lengths"], ends, strict=True)
    columns: list[NDArray[Any]] = [packed[name] for name in ("tlbr", "scores", "embeddings")]
    return DetectionChunk(
        frame_index=packed["frame_index"],
        time_s=packed["time_s"],
        detections=[Detections(*(c[start:end] for c in columns)) for start, end in parts],
        **_from_header(str(packed["header"])),
    )


def dump(chunk: DetectionChunk) -> bytes:
    """A chunk of detections as npz bytes, for the spool."""
    file = io.BytesIO()
    np.savez(file, **pack(chunk))
    return file.getvalue()


def load(content: bytes) -> DetectionChunk:
    """Inverse of `dump`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return unpack({name: file[name] for name in file.files})

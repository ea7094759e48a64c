"""Serialises chunks: frames as an Arrow table of one row, detections as a few flat arrays.

It uses Arrow and npz, never pickle, and copies no pixels.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jde_ray.models.structures import Detections
from jde_ray.pipelines import wall_clock
from jde_ray.pipelines.errors import error_from_dict, error_to_dict
from jde_ray.pipelines.structures import (
    ChosenSize,
    DetectionChunk,
    FrameChunk,
    Keyframe,
    Segment,
    Verdict,
    Video,
    VideoInfo,
)

FRAME_SCHEMA = pa.schema(
    [
        ("header", pa.string()),  # JSON, per chunk: video, index, is_last, geometry, error
        ("frame_index", pa.list_(pa.int64())),  # of all chunks, concatenated
        ("time_s", pa.list_(pa.float64())),
        ("camera_motion", pa.list_(pa.float64())),  # of the chunks that have it
        ("frames", pa.large_binary()),
        ("decode_s", pa.float64()),
    ]
)
RECEIPT_SCHEMA = pa.schema(
    [
        ("num_chunks", pa.int64()),
        ("num_frames", pa.int64()),
        ("num_detections", pa.int64()),
        ("arrived", pa.list_(pa.string())),  # videos whose last chunk has reached their shard
        ("promised", pa.map_(pa.string(), pa.int64())),  # frames per video, by their headers
        ("begun", pa.list_(pa.string())),  # videos that were open at their shard
        ("is_halted", pa.bool_()),  # a shard cannot write any more
        ("decode_s", pa.float64()),
        ("detect_s", pa.float64()),
        ("node", pa.string()),  # machine of the detector
    ]
)
_OF_VIDEO = [field.name for field in fields(Video)]
Packed = dict[str, Any]  # flat arrays under their names, and "header", a JSON text


def segments_to_row(segments: Sequence[Segment]) -> dict[str, str]:
    """An input row of the dataset: the segments that one task decodes."""
    values = [vars(segment) | {"video": video_to_dict(segment.video)} for segment in segments]
    return {"segments": json.dumps(values, default=vars)}  # vars: of a keyframe, a chosen size


def segments_from_table(table: pa.Table) -> list[Segment]:
    """Inverse of `segments_to_row`, from a batch of one row."""
    return [_segment(values) for values in json.loads(table.column("segments")[0].as_py())]


def _segment(values: dict[str, Any]) -> Segment:
    seek, chosen = values["seek"], values["chosen"]
    return Segment(
        **values
        | {
            "video": video_from_dict(values["video"]),
            "seek": None if seek is None else Keyframe(**seek),
            "chosen": None if chosen is None else ChosenSize(tuple(chosen["size"]), chosen["why"]),
        }
    )


def video_to_dict(video: Video) -> dict[str, Any]:
    """A video in values of JSON."""
    values = {name: getattr(video, name) for name in _OF_VIDEO}
    return values | {"start": wall_clock.to_text(video.start)}


def video_from_dict(values: dict[str, Any]) -> Video:
    """Inverse of `video_to_dict`."""
    return Video(**values | {"start": wall_clock.from_text(values["start"])})


def _header(chunk: FrameChunk | DetectionChunk) -> dict[str, Any]:
    names = ("video_id", "attempt", "chunk_index", "is_last", "num_damaged", "decode_whole")
    values = {name: getattr(chunk, name) for name in (*names, "is_partial")}
    return values | {"info": vars(chunk.info), "error": error_to_dict(chunk.error)}


def _from_header(values: dict[str, Any]) -> dict[str, Any]:
    known = {"info": VideoInfo(**values["info"]), "error": error_from_dict(values["error"])}
    return values | known


def frames_to_table(chunks: Sequence[FrameChunk], decode_s: float = 0.0) -> pa.Table:
    """One row of the dataset; the buffer of a single chunk is its own memory.

    Args:
        chunks: One chunk, or several small ones, whose pixels are concatenated.
        decode_s: Seconds that decoding took, for the statistics.
    """
    parts = [np.ascontiguousarray(chunk.frames).reshape(-1) for chunk in chunks]
    pixels = parts[0] if len(parts) == 1 else np.concatenate(parts)
    motions = [_motion(chunk) for chunk in chunks]
    headers = [
        _header(chunk)
        | {"num_frames": len(chunk.frame_index), "shape": chunk.frames.shape}
        | {"num_motions": len(motion)}
        for chunk, motion in zip(chunks, motions, strict=True)
    ]
    buffers = [None, pa.py_buffer(np.array([0, pixels.nbytes], np.int64)), pa.py_buffer(pixels)]
    columns = [
        pa.array([json.dumps(headers)]),
        _list([chunk.frame_index for chunk in chunks], np.int64),
        _list([chunk.time_s for chunk in chunks], np.float64),
        _list([motion.reshape(-1) for motion in motions], np.float64),
        pa.Array.from_buffers(pa.large_binary(), 1, buffers),
        pa.array([decode_s]),
    ]
    return pa.Table.from_arrays(columns, schema=FRAME_SCHEMA)


def _motion(chunk: FrameChunk | DetectionChunk) -> NDArray[np.float64]:
    return np.zeros((0, 2, 3)) if chunk.camera_motion is None else chunk.camera_motion


def _list(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> pa.Array:
    values = np.concatenate(parts).astype(kind, copy=False)
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), pa.array(values))


def frames_from_table(table: pa.Table) -> tuple[list[FrameChunk], float]:
    """Inverse of `frames_to_table`; the frames are read-only views of the table's memory."""
    if table.num_rows != 1:
        raise ValueError(f"chunks: got {table.num_rows} rows in a batch, expected 1")
    column = table.column("frames").chunk(0)  # a scalar or combined chunks would be a copy
    _, ends, content = column.buffers()
    start, end = np.frombuffer(ends, np.int64)[column.offset : column.offset + 2]
    pixels = np.frombuffer(content, np.uint8)[start:end]
    index, time_s, motions = (
        table.column(name)[0].values.to_numpy(zero_copy_only=False)
        for name in ("frame_index", "time_s", "camera_motion")
    )
    motions = motions.reshape(-1, 2, 3)
    chunks, frame, byte, motion = [], 0, 0, 0
    for header in json.loads(table.column("header")[0].as_py()):
        num_frames, shape = header.pop("num_frames"), header.pop("shape")
        num_bytes, num_motions = math.prod(shape), header.pop("num_motions")
        chunks.append(
            FrameChunk(
                frame_index=index[frame : frame + num_frames],
                time_s=time_s[frame : frame + num_frames],
                frames=pixels[byte : byte + num_bytes].reshape(shape),
                camera_motion=motions[motion : motion + num_motions] if num_motions else None,
                **_from_header(header),
            )
        )
        frame, byte, motion = frame + num_frames, byte + num_bytes, motion + num_motions
    return chunks, table.column("decode_s")[0].as_py()


def receipt(
    chunks: Sequence[FrameChunk | DetectionChunk],
    verdicts: Sequence[Verdict],
    num_detections: int,
    *,
    decode_s: float = 0.0,
    detect_s: float = 0.0,
    node: str = "",
) -> pa.Table:
    """The row that the dataset carries after the delivery: counts over the chunks of one row.

    Args:
        chunks: All chunks of the row.
        verdicts: One per chunk, of their association shards.
        num_detections: Detections in all of them.
        decode_s: Seconds of decoding.
        detect_s: Seconds of detection.
        node: Machine of the detector; empty for none.
    """
    values: dict[str, Any] = {
        "num_chunks": len(chunks),
        "num_frames": sum(len(chunk.frame_index) for chunk in chunks),
        "num_detections": num_detections,
        "arrived": [
            chunk.video_id
            for chunk, verdict in zip(chunks, verdicts, strict=True)
            if (chunk.is_last or chunk.error is not None)
            and verdict not in (Verdict.STALE, Verdict.HALTED, Verdict.LOST)
        ],
        "promised": [
            (chunk.video_id, chunk.info.num_frames) for chunk in chunks if chunk.info.num_frames
        ],
        "begun": sorted(
            {
                chunk.video_id
                for chunk, verdict in zip(chunks, verdicts, strict=True)
                if verdict not in (Verdict.STALE, Verdict.HALTED)
            }
        ),
        "is_halted": Verdict.HALTED in verdicts,
        "decode_s": decode_s,
        "detect_s": detect_s,
        "node": node,
    }
    return pa.Table.from_pylist([values], schema=RECEIPT_SCHEMA)


def pack(chunk: DetectionChunk) -> Packed:
    """The detections of all frames as a few flat arrays, which are cheap to send."""
    found = chunk.detections
    width = found[0].embeddings.shape[1] if found else 0
    empty = [Detections.empty(width)]
    qualities = [d.quality for d in found if d.quality is not None]  # of all frames, or of none
    return {
        "header": json.dumps(_header(chunk) | _counts(chunk)),
        "frame_index": chunk.frame_index,
        "time_s": chunk.time_s,
        "camera_motion": _motion(chunk),
        "lengths": np.array([len(d) for d in found], np.int64),
        "tlbr": np.concatenate([d.tlbr for d in found or empty]).astype(np.float32),
        "scores": np.concatenate([d.scores for d in found or empty]).astype(np.float32),
        "embeddings": np.concatenate([d.embeddings for d in found or empty]).astype(np.float16),
    } | ({"quality": np.concatenate(qualities).astype(np.float32)} if qualities else {})


def _counts(chunk: DetectionChunk) -> dict[str, int]:
    return {"num_capped": chunk.num_capped, "num_crops": chunk.num_crops}


def unpack(packed: Packed) -> DetectionChunk:
    """Inverse of `pack`."""
    ends = np.cumsum(packed["lengths"])
    parts = zip(ends - packed["lengths"], ends, strict=True)
    names = ("tlbr", "scores", "embeddings", *(["quality"] if "quality" in packed else []))
    columns: list[NDArray[Any]] = [packed[name] for name in names]
    return DetectionChunk(
        frame_index=packed["frame_index"],
        time_s=packed["time_s"],
        detections=[Detections(*(c[start:end] for c in columns)) for start, end in parts],
        camera_motion=packed["camera_motion"] if len(packed["camera_motion"]) else None,
        **_from_header(json.loads(str(packed["header"]))),
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

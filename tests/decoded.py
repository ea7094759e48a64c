"""A video decoded for a test, and what its chunks hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_videos import read_number

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.structures import FrameChunk, Segment, Video
from jde_ray.pipelines.video.chunks import decode_segment

SIZE = (96, 64)


def decode(
    path: Path,
    *,
    size: tuple[int, int] = SIZE,
    resize: str = "fast",
    chunk_frames: int = 8,
    vid_stride: int = 1,
    max_frames: int | None = None,
    is_image_folder: bool = False,
    rate: float | None = None,
    rect: bool = False,
    camera_motion: bool = False,
) -> list[FrameChunk]:
    segment = Segment(Video(str(path), path.stem, is_image_folder, rate), attempt=3)
    return list(
        decode_segment(
            segment,
            size=size,
            resize=resize,
            chunk_frames=chunk_frames,
            vid_stride=vid_stride,
            max_frames=max_frames,
            rect=rect,
            camera_motion=camera_motion,
        )
    )


def numbers(chunks: list[FrameChunk]) -> list[int]:
    """What is written into the pixels of every frame."""
    return [read_number(f) for c in chunks for f in c.frames[: len(c.frame_index)]]


def indices(chunks: list[FrameChunk]) -> list[int]:
    return [int(i) for c in chunks for i in c.frame_index]


def times(chunks: list[FrameChunk]) -> list[float]:
    return [float(t) for c in chunks for t in c.time_s]


def failure(path: Path, **options: bool) -> VideoError:
    """The error of a video that must fail: one last chunk without frames."""
    chunks = decode(path, **options)
    last = chunks[-1]
    assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert last.error is not None
    assert len(last.frame_index) == len(last.time_s) == 0
    assert "\n" not in str(last.error)
    return last.error


COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 220, 30),
    "blue": (30, 30, 220),
    "grey": (40, 40, 40),
}


def corners(frame: np.ndarray) -> str:
    near = [frame[y, x].astype(int) for y in (3, -4) for x in (3, -4)]
    names = [min(COLOURS, key=lambda c: np.abs(p - COLOURS[c]).sum()) for p in near]
    return " ".join(names)

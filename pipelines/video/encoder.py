"""Frames to H.264 or MPEG-4 files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.video.frame import Image

_TICKS = 90_000  # per second; frames of all usual rates last an integer number of ticks
_ENCODERS = ("libx264", "libopenh264")
_QUALITY = {
    "libx264": {"crf": "23", "preset": "veryfast"},
    "libopenh264": {"b": "4000000"},
}


def write_video(frames: Iterable[tuple[float, Image]], out: Path, frames_per_second: float) -> int:
    """Write frames as H.264 (yuv420p, constant quality, index in front) that a browser plays.

    Args:
        frames: Presentation time in seconds, rising, and `(H, W, 3)` uint8 RGB of one size. Odd
            sizes grow by a repeated row or column, since the format requires even ones.
        out: Path of the mp4 file, which appears once it is complete.
        frames_per_second: Nominal rate, for players.

    Returns:
        Number of frames written.

    Raises:
        RunError: If this build of PyAV has no H.264 encoder.
        ValueError: If there are no frames.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        count = _encode(frames, part, frames_per_second)
        if not count:
            raise ValueError(f"{out}: got no frames, expected at least one")
        os.replace(part, out)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return count


def _encode(frames: Iterable[tuple[float, Image]], path: Path, frames_per_second: float) -> int:
    encoder = _find_encoder()
    rate = Fraction(frames_per_second).limit_denominator(1001)
    count, last = 0, -1
    options = {"movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", container_options=options) as container:
        stream: Any = None
        for time_s, image in frames:
            height, width = image.shape[:2]
            if stream is None:
                stream = container.add_stream(encoder, rate=rate, options=dict(_QUALITY[encoder]))
                stream.width, stream.height = width + width % 2, height + height % 2
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, _TICKS)
            odd = ((0, height % 2), (0, width % 2), (0, 0))
            even = np.ascontiguousarray(np.pad(image, odd, mode="edge"))
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            last = max(round(time_s * _TICKS), last + 1)
            frame.pts, frame.time_base = last, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    return count


def _find_encoder() -> str:
    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise RunError(
        f"save-video: this PyAV has no H.264 encoder, expected {' | '.join(_ENCODERS)}",
        ExitCode.REFUSED,
    )

"""Decoding alone, by cores: processes that decode the same clip and letterbox its frames."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from jde_ray.jobs.bench.gpu.settings import Bench

_FRAMES = 60
_SIZE = (1088, 608)


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row per number of processes, up to the cores: 1080p to the published network's input."""
    cores = len(os.sched_getaffinity(0))
    numbers = [n for n in (1, 2, 4, 8, 16, 32) if n <= cores] if bench.is_gpu else [1]
    by = "PyAV" if has_pyav() else "OpenCV's FFmpeg, since PyAV is missing"
    with tempfile.TemporaryDirectory(prefix="jde-bench-") as folder:
        clip = Path(folder) / "clip.mp4"
        _write(clip)
        context = multiprocessing.get_context("spawn")
        for number in numbers:
            with context.Pool(number) as pool:
                pool.map(decode, [(str(clip), 1)] * number)  # started, and the file is cached
                times = 4 if bench.is_gpu else 1
                started = perf_counter()
                frames = sum(pool.map(decode, [(str(clip), times)] * number, chunksize=1))
                seconds = perf_counter() - started
            yield {
                "processes": number,
                "frames_per_second": frames / seconds,
                "by": by,
                "clip": "1920x1080 MPEG-4 Part 2",
            }


def has_pyav() -> bool:
    """Whether clips are decoded as a run decodes them; other packages of it may be missing too."""
    try:
        import_module("jde_ray.pipelines.video.chunks")
    except ImportError:
        return False
    return True


def _write(clip: Path) -> None:
    import cv2
    import numpy as np

    codec = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(clip), codec, 25.0, (1920, 1080))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (68, 130, 3), dtype=np.uint8)
    scene = cv2.resize(noise, (2080, 1080), interpolation=cv2.INTER_CUBIC)
    for index in range(_FRAMES):
        writer.write(np.ascontiguousarray(scene[:, 2 * index : 2 * index + 1920]))
    writer.release()


def decode(task: tuple[str, int]) -> int:
    """Decode and letterbox a clip some times on one thread; the number of frames."""
    path, times = task
    return sum(_once(path) for _ in range(times))


def _once(path: str) -> int:
    from jde_ray.models.letterbox import Letterbox

    if has_pyav():
        from jde_ray.pipelines.structures import Segment, Video
        from jde_ray.pipelines.video.chunks import decode_segment

        chunks = decode_segment(
            Segment(Video(path, "clip")), size=_SIZE, resize="fast", chunk_frames=16
        )
        return sum(len(chunk.frame_index) for chunk in chunks)
    import cv2

    cv2.setNumThreads(1)
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
    capture, letterbox, frames = cv2.VideoCapture(path), Letterbox(1920, 1080, *_SIZE), 0
    while True:
        is_read, image = capture.read()
        if not is_read:
            return frames
        letterbox.apply(image)  # type: ignore[arg-type]
        frames += 1

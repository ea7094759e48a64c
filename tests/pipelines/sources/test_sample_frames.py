"""Frames of several videos, as many of each, evenly over their length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jde_ray.pipelines.sources import sample_frames as module
from jde_ray.pipelines.sources.sample_frames import sample_frames
from jde_ray.pipelines.structures import FrameChunk, VideoInfo


def chunks_of(length: int) -> list[FrameChunk]:
    """A video whose frames are numbered by their bytes."""
    found = []
    for start in range(0, length, 8):
        index = np.arange(start, min(start + 8, length), dtype=np.int64)
        frames = np.zeros((8, 2, 2, 3), np.uint8)
        frames[: len(index)] = index[:, None, None, None]
        info = VideoInfo(2, 2, 25.0)
        is_last = start + 8 >= length
        found.append(FrameChunk("a", 0, start // 8, index, index / 25, frames, info, is_last))
    return found


def test_as_many_of_each_video_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    lengths = {"a": 100, "b": 3}

    def decode(segment, **settings):
        assert settings["size"] == (2, 2)
        return iter(chunks_of(lengths[Path(segment.video.uri).stem]))

    monkeypatch.setattr(module, "decode_segment", decode)
    numbers = [int(frame[0, 0, 0]) for frame in sample_frames([str(tmp_path)], (2, 2), 10)]
    first, second = numbers[:5], numbers[5:]
    assert second == [0, 1, 2]  # a short video gives all that it has
    assert first[0] == 0
    assert first[-1] >= 80
    steps = np.diff(first)
    assert steps.min() > 0
    assert steps.max() <= 2 * steps.min()

"""Damaged clips, split and unsplit, against the facts known before the damage.

A clip gives all frames, or an error of the closed list. JDE_FUZZ_SEED chooses other damage.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from decoded import SIZE
from hostile_files import damage, write_good

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.structures import FrameChunk, Segment, Video
from jde_ray.pipelines.video.chunks import decode_segment
from jde_ray.pipelines.video.splitting import split_segment

SEED = int(os.environ.get("JDE_FUZZ_SEED", "0"))
NUM_FRAMES = 24
# AVI and transport streams say nowhere how many frames there are, and a decoder finds its way
EXACT = (".mp4", ".mov", ".mkv", ".webm")
IN_ORDER = ("front.mp4", "mpeg4.mkv", "mpeg4.avi", "mjpeg.avi", "h264.ts", "vp9.webm")


def decode(segment: Segment) -> list[FrameChunk]:
    return list(decode_segment(segment, size=SIZE, resize="fast", chunk_frames=4))


def pixels(chunks: list[FrameChunk]) -> np.ndarray:
    return np.concatenate([c.frames[: len(c.frame_index)] for c in chunks])


def whole_until(data_path: Path) -> list[int]:
    """For every packet where its bytes end, by the place of the next one."""
    with av.open(str(data_path)) as container:
        places = [p.pos for p in container.demux(container.streams.video[0]) if p.size]
    return [*places[1:], data_path.stat().st_size]


class Clips:
    def __init__(self, folder: Path) -> None:
        self.paths = write_good(folder, NUM_FRAMES)
        self.data = {name: path.read_bytes() for name, path in self.paths.items()}
        whole = {name: decode(Segment(Video(str(p), "x"))) for name, p in self.paths.items()}
        assert all(chunks[-1].error is None for chunks in whole.values())
        self.pixels = {name: pixels(chunks) for name, chunks in whole.items()}
        assert {len(frames) for frames in self.pixels.values()} == {NUM_FRAMES}
        self.ends = {name: whole_until(self.paths[name]) for name in IN_ORDER}
        self.seen: Counter[tuple[str, str]] = Counter()
        self.folder = folder

    def check(self, rng: random.Random, name: str) -> None:
        data, place = damage(rng, self.data[name])
        path = self.folder / f"damaged{Path(name).suffix}"
        path.write_bytes(data)
        segment = Segment(Video(str(path), "x", num_bytes=1))
        whole = decode(segment)
        error = whole[-1].error
        index = [int(i) for chunk in whole for i in chunk.frame_index]
        times = [float(t) for chunk in whole for t in chunk.time_s]
        assert index == list(range(len(index)))
        assert (np.diff(times) > 0).all()
        assert error is None or (error.reason in Reason and error.reason is not Reason.INTERNAL)
        assert error is None or "\n" not in str(error)
        what = "error" if error else "all" if len(index) == NUM_FRAMES else "lost"
        self.seen[Path(name).suffix, what] += 1
        if name in IN_ORDER and len(index):
            first = 0 if name == "front.mp4" else 1  # of a clip whose headers are sound
            intact = sum(end <= place for end in self.ends[name][first:])
            intact = min(intact, len(index))
            assert (pixels(whole)[:intact] == self.pixels[name][:intact]).all()
        self.check_parts(segment, whole)

    def check_parts(self, segment: Segment, whole: list[FrameChunk]) -> None:
        parts = split_segment(segment, segment_frames=8, step=4)
        if len(parts) == 1:
            return
        chunks = [chunk for part in parts for chunk in decode(part)]
        errors = [chunk.error for chunk in chunks if chunk.error]
        if errors:  # the video is decoded whole, or fails there and here
            assert whole[-1].error or any(chunk.decode_whole for chunk in chunks)
            return
        assert whole[-1].error is None
        for one, other in zip(chunks, whole, strict=True):
            for field in ("frame_index", "time_s", "frames"):
                np.testing.assert_array_equal(getattr(one, field), getattr(other, field))

    def lost_share(self) -> float:
        exact = {key: n for key, n in self.seen.items() if key[0] in EXACT}
        lost = sum(n for (_, what), n in exact.items() if what == "lost")
        return lost / max(1, sum(exact.values()))


def run(folder: Path, num_clips: int) -> Clips:
    clips = Clips(folder)
    for number in range(num_clips):
        name = sorted(clips.data)[number % len(clips.data)]
        try:
            clips.check(random.Random(f"{SEED} {number}"), name)
        except AssertionError as error:
            raise AssertionError(f"{name}, JDE_FUZZ_SEED={SEED}, clip {number}: {error}") from error
    print(f"JDE_FUZZ_SEED={SEED}: {dict(sorted(clips.seen.items()))}")  # noqa: T201
    return clips


def test_a_damaged_clip_gives_all_its_frames_or_an_error(tmp_path):
    assert run(tmp_path, 33).lost_share() == 0


@pytest.mark.slow
def test_three_thousand_damaged_clips_give_all_their_frames_or_an_error(tmp_path):
    clips = run(tmp_path, 3300)
    assert clips.lost_share() <= 0.01  # a number that is smaller everywhere it stands is believed
    assert sum(n for (_, what), n in clips.seen.items() if what == "error") > 300

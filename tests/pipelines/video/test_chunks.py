"""The decode stage: chunks, letterbox, and an error as the last row."""

from __future__ import annotations

import numpy as np
import pytest
from decoded import corners, decode, indices, numbers, times
from made_videos import (
    CONTAINERS,
    read_number,
    write_video,
)
from places import DATA

from jde_ray.models.letterbox import Letterbox
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.chunks import read_frames


@pytest.mark.parametrize("num_frames", [1, 7, 8, 9, 16])
def test_chunks_are_full_but_the_last_which_says_so(tmp_path, num_frames):
    chunks = decode(write_video(tmp_path / "a.mp4", num_frames))
    assert [c.chunk_index for c in chunks] == list(range(len(chunks)))
    assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [len(c.frame_index) for c in chunks[:-1]] == [8] * (len(chunks) - 1)
    assert all(c.frames.shape == (8, 64, 96, 3) for c in chunks)
    padding = chunks[-1].frames[len(chunks[-1].frame_index) :]
    assert not padding.any()
    assert indices(chunks) == list(range(num_frames))


def test_stride_keeps_source_numbers_and_max_frames_counts_what_is_taken(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    chunks = decode(path, vid_stride=3, max_frames=5, chunk_frames=2)
    assert numbers(chunks) == indices(chunks) == [0, 3, 6, 9, 12]
    assert times(chunks) == pytest.approx([0, 0.12, 0.24, 0.36, 0.48])
    assert chunks[-1].is_last
    assert [len(c.frame_index) for c in chunks] == [2, 2, 1]
    assert indices(decode(path, max_frames=8)) == list(range(8))


@pytest.mark.parametrize("size", [(98, 62), (34, 130), (130, 34)])
def test_odd_sizes_lie_where_the_letterbox_says(tmp_path, size):
    path = write_video(tmp_path / "a.mp4", 2, size=size)
    fast = decode(path, size=(192, 96))[0].frames[0]
    published = decode(path, size=(192, 96), resize="published")[0].frames[0]
    letterbox = Letterbox(*size, 192, 96)
    left, top = letterbox.offset
    width, height = letterbox.scaled_size
    for frame in (fast, published):
        inside = np.zeros((96, 192), bool)
        inside[top : top + height, left : left + width] = True
        assert (frame[~inside] == 128).all()
        assert corners(frame[top : top + height, left : left + width]) == "red green blue grey"
    assert np.abs(fast.astype(int) - published).mean() < 8


def test_a_fitted_input_has_the_shape_of_the_video(tmp_path):
    path = write_video(tmp_path / "tall.mp4", 9, size=(64, 160))
    chunks = decode(path, size=(192, 96), rect=True)
    assert [c.frames.shape for c in chunks] == [(8, 192, 96, 3)] * 2
    assert corners(chunks[0].frames[0][:, 10:-10]) == "red green blue grey"
    damaged = decode(tmp_path / "missing.mp4", size=(192, 96), rect=True)
    assert [c.frames.shape for c in damaged] == [(8, 96, 192, 3)]


def test_full_frames_agree_with_chunks(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10)
    frames = list(read_frames(Video(str(path), "a")))
    assert [i for i, _, _ in frames] == list(range(10))
    assert [read_number(rgb) for _, _, rgb in frames] == list(range(10))
    assert [t for _, t, _ in frames] == times(decode(path))


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_end_in_frames_or_in_a_reason(tmp_path, seed):
    rng = np.random.default_rng(seed)
    name = list(CONTAINERS)[seed % len(CONTAINERS)]
    path = write_video(tmp_path / name, 12, **CONTAINERS[name])
    data = bytearray(path.read_bytes())
    region = len(data) if seed % 3 else 400
    for position in rng.integers(min(region, len(data)), size=rng.choice((1, 10, 100, 1000))):
        data[position] = rng.integers(256)
    path.write_bytes(data)
    chunks = decode(path)
    error = chunks[-1].error
    assert chunks[-1].is_last
    assert error is not None or 0 < len(indices(chunks)) < 1000
    if error is not None:
        assert error.reason in set(Reason) - {Reason.INTERNAL}


def test_read_frames_raises_the_same_reasons(tmp_path):
    with pytest.raises(VideoError, match="not_found"):
        next(read_frames(Video(str(tmp_path / "missing.mp4"), "x")))


REAL_VIDEOS = {
    "pets09_s2l1_vtest_480x360.avi": 795,
    "towncentre_1080p.mp4": 302,
    "tokyo_street_moving_360p.mp4": 319,
    "underpass_360x288.avi": 239,
    "mot_night_street_8frames.mp4": 8,
    "intel_one_by_one_ccby.mp4": 1394,
}


@pytest.mark.data
@pytest.mark.parametrize(("name", "num_frames"), REAL_VIDEOS.items())
def test_real_videos_give_every_frame(name, num_frames):
    path = DATA / "videos" / name
    if not path.exists():
        pytest.skip(f"no {name}: set JDE_TEST_DATA to the folder that holds videos/")
    chunks = decode(path, size=(64, 32), chunk_frames=64)
    assert chunks[-1].error is None
    assert indices(chunks) == list(range(num_frames))
    assert (np.diff(times(chunks)) > 0).all()

"""Times of frames whose stamps are late, early, repeated or not there; frames that are lost."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from decoded import decode, failure, numbers, times
from hypothesis import given, settings
from hypothesis import strategies as st
from made_videos import write_video

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.video.container_structure import Structure
from jde_ray.pipelines.video.containers import Opened
from jde_ray.pipelines.video.stamps import Clock


def source(container: str = "matroska", has_b_frames: bool = False) -> Opened:
    context = SimpleNamespace(has_b_frames=has_b_frames, name="h264")
    stream = SimpleNamespace(time_base=Fraction(1, 1000), codec_context=context)
    return Opened(SimpleNamespace(start_time=0), stream, Structure(container), 1, 25.0)


def timed(stamps: list[int | None], container: str = "matroska", **options: bool) -> list[float]:
    frames = (SimpleNamespace(pts=pts) for pts in stamps)
    return [time for _, time, _ in Clock(source(container, **options)).timed(frames)]


def seconds(stamps: list[int]) -> list[float]:
    return [stamp * (1 / 1000) for stamp in stamps]


def test_one_wrong_stamp_moves_no_other_frame():
    good = list(range(0, 2000, 40))
    for wrong in (695, 5_000_000, 600, 560, 0):  # late, very late, repeated, early
        got = timed([*good[:15], wrong, *good[16:]])
        assert got[:15] + got[16:] == seconds(good[:15] + good[16:])
        assert got[14] < got[15] < got[16]


def test_a_stamp_repeated_in_a_video_of_two_rates_is_off_by_less_than_a_frame():
    """It was 12 s, and people who stand still got new ids."""
    good = [*range(0, 20_000, 20), *range(20_000, 40_000, 100)]
    got = timed([*good[:900], good[899], *good[901:]])
    assert np.abs(np.array(got) - seconds(good)).max() < 0.02


def test_frames_without_a_stamp_are_a_frame_behind_and_the_next_stamp_counts_again():
    assert timed([0, None, 80, 120]) == pytest.approx([0, 0.04, 0.08, 0.12])
    assert timed([0, None, None, 120]) == pytest.approx([0, 0.04, 0.08, 0.12])
    assert timed([None, 40, 80]) == pytest.approx([0, 0.04, 0.08])


def test_a_file_without_stamps_has_its_frame_rate():
    want = [i / 25 for i in range(50)]
    assert timed([0] * 50, "avi", has_b_frames=True) == want
    assert timed([None] * 50) == pytest.approx(want)


def test_a_joined_transport_stream_goes_on_behind_the_first_recording():
    stamps = [*range(0, 8000, 40), *range(0, 8000, 40)]
    assert timed(stamps, "mpegts") == pytest.approx([i / 25 for i in range(400)])


@given(
    st.lists(st.none() | st.integers(-50, 3000), max_size=60), st.sampled_from(["iso", "mpegts"])
)
@settings(max_examples=100, deadline=None)
def test_times_are_finite_and_rise_whatever_the_stamps(stamps, container):
    got = timed(stamps, container)
    assert all(map(math.isfinite, got))
    assert (np.diff(got) > 0).all()


@given(
    st.lists(st.none() | st.integers(0, 900), max_size=30),
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_behind_a_keyframe_that_follows_all_before_nothing_remembers_them(before, steps):
    """Why a run that goes on, and reads its file from a keyframe, has the times of the whole."""
    stamps = [stamp for stamp in before if stamp is not None]
    after = [1000 + int(step) for step in np.cumsum(steps)]
    assert timed([*stamps, *after])[len(stamps) :] == timed(after)


def test_an_error_comes_behind_the_frames_before_it():
    def frames():
        yield from (SimpleNamespace(pts=pts) for pts in (0, 40))
        raise VideoError(Reason.DECODE, "bad")

    got = []
    with pytest.raises(VideoError):
        got.extend(time for _, time, _ in Clock(source()).timed(frames()))
    got = []
    clock = Clock(source()).timed(frames())
    got = [next(clock)[1], next(clock)[1]]
    assert got == [0, 0.04]
    with pytest.raises(VideoError):
        next(clock)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_late_frame_of_a_file_moves_no_other(tmp_path, name):
    path = write_video(tmp_path / name, 40, codec="mpeg4", late={15: 95})
    assert times(decode(path)) == pytest.approx([i / 25 for i in range(40)], abs=0.001)


def samples(path: Path) -> list[tuple[int, int]]:
    """Position and size of every packet, by the file's index."""
    with av.open(str(path)) as container:
        return [(e.pos, e.size) for e in container.streams.video[0].index_entries]


def test_frames_that_the_decoder_left_out_without_a_word_are_an_error(tmp_path):
    """HEVC pictures with a damaged header are passed over, and so are those that refer to them."""
    options = {"x265-params": "log-level=none:bframes=0:keyint=100"}
    path = write_video(tmp_path / "a.mp4", 20, codec="libx265", options=options)
    good, results = path.read_bytes(), set()
    for position, _ in samples(path)[3:8]:
        data = bytearray(good)
        data[position + 7] ^= 0xFF  # behind the length and the header of the unit
        path.write_bytes(data)
        chunks = decode(path)
        error = chunks[-1].error
        assert error is not None or len(numbers(chunks)) == 20
        results.add(error.detail if error else "")
    assert any("cannot be decoded" in detail for detail in results), results


def test_a_broken_first_keyframe_is_no_recording_that_starts_between_two(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    start, size = samples(path)[0]
    data[start : start + size] = b"\x7f" * size  # units that are longer than their sample
    path.write_bytes(data)
    assert failure(path).reason is Reason.DECODE

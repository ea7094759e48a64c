"""The structure of Matroska files: good ones of every layout pass, a damaged one is an error."""

from __future__ import annotations

import io
import random

import pytest
from decoded import decode, failure, numbers
from made_videos import write_video

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.video.matroska import Walk, Watched

LAYOUTS = {
    "plain.mkv": {"with_sound": True},
    "live.mkv": {"container_options": {"live": "1"}},  # nothing has a length
    "small_clusters.mkv": {"container_options": {"cluster_time_limit": "100"}, "with_sound": True},
    "index_in_front.mkv": {"container_options": {"cues_to_front": "1"}},
    "space_in_front.mkv": {"container_options": {"reserve_index_space": "2000"}},
    "a.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "dash.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "realtime"},
        "container_options": {"dash": "1", "dash_track_number": "3"},
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_block_of_every_layout_is_seen(tmp_path, name):
    path = write_video(tmp_path / name, 30, **LAYOUTS[name])
    data = path.read_bytes()
    for step in (7, 100, 32768):  # however the reader takes it
        walk = Walk(len(data))
        for at in range(0, len(data), step):
            walk.see(at, data[at : at + step])
        assert walk.damage == ""
        assert walk.blocks[walk.video_tracks[0]] == 30
    assert numbers(decode(path)) == list(range(30))


def test_leaps_of_the_reader_are_waited_for(tmp_path):
    path = write_video(tmp_path / "a.mkv", 30)
    data = path.read_bytes()
    file = Watched(io.BytesIO(data), len(data))
    rng = random.Random(0)
    for at in range(0, len(data), 64):
        for _ in range(3):
            file.seek(rng.randrange(len(data)))
            file.read(5)
        file.seek(at)
        file.read(64)
    assert file.walk.damage == ""
    assert file.walk.blocks[1] == 30


def test_a_live_recording_that_was_cut_off_keeps_its_frames(tmp_path):
    """It promises no length; what is there is all there is."""
    live = {"live": "1", "cluster_time_limit": "100"}
    path = write_video(tmp_path / "a.mkv", 30, codec="mpeg4", container_options=live)
    data = path.read_bytes()
    for end in range(len(data) - 300, len(data), 7):
        path.write_bytes(data[:end])
        error = decode(path)[-1].error
        assert error is None or error.reason is Reason.TRUNCATED


@pytest.mark.parametrize("seed", range(3))
def test_damage_to_any_element_is_an_error(tmp_path, seed):
    """Libav steps over it to the next cluster, or ends there, and says nothing."""
    small = {"cluster_time_limit": "200"}
    path = write_video(tmp_path / "a.mkv", 30, codec="mpeg4", container_options=small)
    good = path.read_bytes()
    first = good.index(b"\x1f\x43\xb6\x75")
    rng, lost = random.Random(seed), 0
    for _ in range(25):
        data = bytearray(good)
        data[rng.randrange(first, len(good))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        chunks = decode(path)
        lost += chunks[-1].error is None and len(numbers(chunks)) < 30
    assert lost == 0


def test_a_block_of_no_track_and_one_too_long_are_errors(tmp_path):
    path = write_video(tmp_path / "a.mkv", 30, codec="mpeg4")
    good = path.read_bytes()
    block = good.index(b"\xa3", good.index(b"\x1f\x43\xb6\x75") + 12)
    for at, value in ((block + 2, 0x85), (block + 1, 0x7F), (block, 0xA4)):
        data = bytearray(good)
        data[at] = value
        path.write_bytes(data)
        assert failure(path).reason is Reason.DECODE

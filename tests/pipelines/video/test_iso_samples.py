"""What the tables of mp4 and mov files count, beside what libav reads."""

from __future__ import annotations

import av
import pytest
from decoded import decode, failure, numbers
from made_videos import write_video

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.video.container_structure import read_structure
from jde_ray.pipelines.video.iso_samples import samples_of_index

LAYOUTS = {
    "b_frames.mp4": {"options": {"bf": "3"}, "with_sound": True},
    "front.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "late_fragments.mp4": {"container_options": {"movflags": "frag_keyframe+delay_moov"}},
    "first_in_index.mp4": {"container_options": {"movflags": "frag_keyframe"}, "with_sound": True},
    "dash.mp4": {"container_options": {"movflags": "dash+global_sidx+frag_keyframe"}},
    "a.mov": {"codec": "mpeg4", "with_sound": True},
    "variable.mp4": {"pts": [0, 40, 50, 500, 520, *range(1000, 3500, 100)]},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_sample_of_every_layout_is_counted(tmp_path, name):
    path = write_video(tmp_path / name, 30, **LAYOUTS[name])
    with path.open("rb") as file:
        structure = read_structure(file, path.stat().st_size)
    with av.open(str(path)) as container:
        number = container.streams.video[0].id
    assert structure.samples[number] == 30
    assert not structure.is_damaged
    assert numbers(decode(path)) == list(range(30))


def test_a_video_of_which_a_part_is_shown_is_no_damaged_one(tmp_path):
    """Phones trim by an edit list and leave the samples where they are."""
    path = write_video(tmp_path / "a.mp4", 30, options={"bf": "0"}, gop=5)
    data = bytearray(path.read_bytes())
    edit = data.index(b"elst") + 12
    data[edit : edit + 4] = (600).to_bytes(4, "big")  # thousandths: the first 15 frames
    path.write_bytes(data)
    moov = data.index(b"moov") - 4
    assert samples_of_index(bytes(data[moov:])) == {1: None}
    assert numbers(decode(path)) == list(range(15))


def test_a_sample_that_is_too_large_does_not_shorten_the_video_without_a_word(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    data[data.index(b"stsz") + 16 + 4 * 20] = 0x7F  # the 21st has 2 GB: libav drops the rest
    path.write_bytes(data)
    error = failure(path)
    assert error.reason is Reason.DECODE
    assert "30" in error.detail


@pytest.mark.parametrize("box", [b"moof", b"tfhd", b"mdat"])
def test_a_fragment_that_is_lost_is_an_error(tmp_path, box):
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_video(tmp_path / "a.mp4", 30, container_options=fragments)
    data = bytearray(path.read_bytes())
    place = data.rindex(box)
    data[place + 4 + 7 if box == b"tfhd" else place] ^= 0x01  # its track, or what it is
    path.write_bytes(data)
    assert failure(path).reason in (Reason.DECODE, Reason.UNSUPPORTED_FORMAT)

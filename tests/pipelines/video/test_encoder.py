"""The sound of a source beside the frames that were drawn, in sync and never at their cost."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
from hostile_files import damage
from made_videos import write_flash, write_images, write_video

from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video import encoder
from jde_ray.pipelines.video.chunks import read_frames
from jde_ray.pipelines.video.encoder import copy_sound

FLASH_S = 1.0  # when the picture is lit and the tone begins


def video(path: Path) -> Video:
    return Video(str(path), path.stem)


def draw(source: Path, out: Path, stride: int = 1, most: int | None = None) -> str:
    """Write every n-th frame as it is, and copy the sound."""
    seen = [(time_s, image) for i, time_s, image in read_frames(video(source)) if i % stride == 0]
    encoder.write_video(seen[:most], out, 25 / stride)
    return copy_sound(video(source), out)


def lit_at(path: Path) -> float:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return next(float(f.time) for f in frames if f.to_ndarray(format="gray").mean() > 128)


def heard(path: Path) -> tuple[str, float | None, float]:
    """Codec of the sound, where its tone begins, and where it ends."""
    start, end = None, 0.0
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.codec.canonical_name
        for frame in container.decode(audio=0):
            wave = np.abs(np.atleast_2d(frame.to_ndarray())[0])
            loud = np.flatnonzero(wave > 0.1)
            if start is None and len(loud):
                start = float(frame.time) + loud[0] / frame.sample_rate
            end = float(frame.time) + len(wave) / frame.sample_rate
    return codec, start, end


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("a.mp4", "aac", "aac"),
        ("a.mov", "libmp3lame", "mp3"),
        ("a.mkv", "libopus", "opus"),
        ("a.ts", "ac3", "ac3"),
        ("b.ts", "aac", "aac"),  # its packets have headers that mp4 does not carry
        ("a.avi", "libmp3lame", "mp3"),
    ],
)
def test_the_tone_begins_with_the_flash(tmp_path, name, codec, kept):
    source, out = write_flash(tmp_path / name, codec, FLASH_S), tmp_path / "out.mp4"
    assert draw(source, out) == ""
    found, start, end = heard(out)
    assert found == kept
    assert start == pytest.approx(lit_at(out), abs=0.04)
    assert end == pytest.approx(2.0, abs=0.1)
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.mp4"])


def test_sound_that_starts_later_than_the_picture_stays_later(tmp_path):
    source, out = write_flash(tmp_path / "a.mp4", "aac", FLASH_S, late_s=0.3), tmp_path / "out.mp4"
    assert draw(source, out) == ""
    assert heard(out)[1] == pytest.approx(lit_at(out) + 0.3, abs=0.03)


def test_of_some_frames_the_sound_ends_with_the_last_one(tmp_path):
    source, out = write_flash(tmp_path / "a.mp4", "aac", FLASH_S), tmp_path / "out.mp4"
    draw(source, out, stride=3, most=10)
    _, start, end = heard(out)
    assert start == pytest.approx(FLASH_S, abs=0.03)  # the sound keeps its pace
    assert lit_at(out) == pytest.approx(27 / 25, abs=1e-3)  # the first frame of every three
    assert 1.15 < end < 1.25


def test_what_mp4_does_not_carry_is_left_out_and_said(tmp_path):
    source, out = write_flash(tmp_path / "a.mkv", "flac", FLASH_S), tmp_path / "out.mp4"
    assert draw(source, out) == "got sound in flac, expected aac, mp3, opus, ac3, eac3"
    assert lit_at(out) == FLASH_S
    with av.open(str(out)) as container:
        assert not container.streams.audio


def test_without_sound_there_is_nothing_to_say(tmp_path):
    source, out = write_video(tmp_path / "a.mp4", 5), tmp_path / "out.mp4"
    assert draw(source, out) == ""
    folder = Video(str(write_images(tmp_path / "images", 3)), "images", is_image_folder=True)
    assert copy_sound(folder, out) == ""


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def test_damaged_sound_costs_no_picture(tmp_path):
    """Sources whose bytes are changed after their frames were read, and one that is gone."""
    source, drawn = write_flash(tmp_path / "a.mp4", "aac", FLASH_S), tmp_path / "drawn.mp4"
    frames = [(time_s, image) for _, time_s, image in read_frames(video(source))]
    encoder.write_video(frames, drawn, 25)
    whole, plain, out = source.read_bytes(), pictures(drawn), tmp_path / "out.mp4"
    rng, said = random.Random(3), set()
    for number in range(40):
        source.write_bytes(damage(rng, whole)[0] if number else b"")
        out.write_bytes(drawn.read_bytes())
        said.add(bool(copy_sound(video(source), out)))
        assert pictures(out) == plain
    source.unlink()
    assert "not_found" in copy_sound(video(source), out)
    assert pictures(out) == plain
    assert said == {True, False}
    assert {path.name for path in tmp_path.iterdir()} == {"drawn.mp4", "out.mp4"}

"""The start of a recording in the header of its container, as real files hold it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from made_videos import write_video

from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.video.recording_start import recording_start
from jde_ray.pipelines.video.video_file import decode_file
from jde_ray.pipelines.wall_clock import from_microseconds

BEGAN = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)


def remuxed(source: Path, target: Path, **metadata: str) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        new.metadata.update(metadata)
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def start_in(path: Path) -> datetime | None:
    first = next(iter(decode_file(Segment(Video(str(path), path.stem)))))
    number = first.info.start_us
    return None if number is None else from_microseconds(number)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_containers_say_when_they_began(tmp_path: Path, suffix: str) -> None:
    plain = tmp_path / "plain.mp4"
    write_video(plain)
    assert start_in(plain) is None
    text = BEGAN.isoformat()
    assert start_in(remuxed(plain, tmp_path / f"x.{suffix}", creation_time=text)) == BEGAN


def test_a_clock_that_was_never_set_says_nothing(tmp_path: Path) -> None:
    plain = tmp_path / "plain.mp4"
    write_video(plain)
    for name, text in (("x.mp4", "1970-01-01T00:00:05Z"), ("x.mkv", "2200-01-01T00:00:00Z")):
        assert start_in(remuxed(plain, tmp_path / name, creation_time=text)) is None


def test_the_stream_is_asked_if_the_container_says_nothing_true() -> None:
    unset = SimpleNamespace(metadata={"creation_time": "1904-01-01T00:00:00Z"})
    stream = SimpleNamespace(metadata={"creation_time": "2024-05-01T09:30:00Z"})
    number = recording_start(unset, stream)
    assert number is not None
    assert from_microseconds(number) == BEGAN
    assert recording_start(unset, SimpleNamespace(metadata={})) is None

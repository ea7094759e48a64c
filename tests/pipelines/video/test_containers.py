"""What is refused before a frame is decoded, and why."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
from decoded import decode, failure, numbers, times
from made_videos import (
    put_sound_behind,
    write_sound,
    write_video,
)

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.containers import opened, packets, to_video_error
from jde_ray.pipelines.video.frame import check_size


def test_what_is_no_video_says_why(tmp_path):
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("Dear diary, today I renamed a file.\n" * 50)
    assert failure(empty).reason is Reason.EMPTY
    assert failure(text).reason is Reason.UNSUPPORTED_FORMAT
    assert failure(write_sound(tmp_path / "sound.mp4")).reason is Reason.NO_VIDEO_STREAM
    assert failure(tmp_path / "missing.mp4").reason is Reason.NOT_FOUND
    assert failure(tmp_path).reason is Reason.UNSUPPORTED_FORMAT
    assert failure(tmp_path / "nul\0.mp4").reason is Reason.BAD_KEY


def test_formats_that_name_other_files_are_never_opened(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile a.mp4\n")
    assert failure(playlist).reason is Reason.UNSUPPORTED_FORMAT
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\na.mp4\n")
    assert failure(playlist).reason is Reason.UNSUPPORTED_FORMAT


def test_codecs_off_the_list_are_refused(tmp_path):
    path = write_video(tmp_path / "a.avi", 3, codec="asv1")
    error = failure(path)
    assert error.reason is Reason.UNSUPPORTED_CODEC
    assert "asv1" in error.detail


def test_encrypted_files_are_told_apart(tmp_path):
    key = "0123456789abcdef0123456789abcdef"
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = write_video(tmp_path / "a.mp4", 5, container_options=scheme)
    assert failure(path).reason is Reason.ENCRYPTED


def test_frames_too_large_are_refused_before_decoding(tmp_path):
    path = write_video(tmp_path / "a.mkv", 1, size=(8194, 16), codec="ffv1")
    error = failure(path)
    assert error.reason is Reason.TOO_LARGE
    assert "8194x16" in error.detail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "x"), Reason.NOT_FOUND),
        (PermissionError(13, "x"), Reason.ACCESS_DENIED),
        (OSError(5, "x"), Reason.STORAGE),
        (OSError(22, "seek"), Reason.DECODE),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (av.error.MemoryError(12, "x"), Reason.DECODE),
        (av.error.OSError(5, "x"), Reason.DECODE),
        (av.error.InvalidDataError(1, "x"), Reason.DECODE),
        (av.error.BlockingIOError(11, "x"), Reason.DECODE),
        (av.error.DecoderNotFoundError(1, "x"), Reason.UNSUPPORTED_CODEC),
        (EOFError(), Reason.TRUNCATED),
        (KeyError("a\nb"), Reason.INTERNAL),
        (VideoError(Reason.WORKER_DIED, "three times"), Reason.WORKER_DIED),
    ],
)
def test_every_exception_has_a_reason_and_one_line(error, reason):
    known = to_video_error(error, 7)
    assert known.reason is reason
    assert known.frame == (None if reason is Reason.WORKER_DIED else 7)
    assert "\n" not in str(known)


def test_a_store_or_a_disk_that_cannot_be_read_is_quoted():
    """Missing credentials, expired ones and a bucket of somebody else need different remedies."""
    answer = "read s3://b/a.mp4: the credentials have expired (403 ExpiredToken)"
    error = to_video_error(PermissionError(answer), 3)
    assert str(error) == f"access_denied: {answer} (frame 3)"
    on_disk = to_video_error(PermissionError(13, "Permission denied"))
    assert str(on_disk) == "access_denied: no permission to read it"
    stale = to_video_error(OSError(116, "Stale file handle"))
    assert str(stale) == "storage: reading failed (Stale file handle)"


@pytest.mark.parametrize(("width", "height"), [(8193, 1), (1, 8193), (8192, 8192)])
def test_sizes_over_the_cap_are_refused(width, height):
    with pytest.raises(VideoError, match="too_large"):
        check_size(width, height)
    check_size(8192, 4320)


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_a_size_that_libav_refuses_first_is_too_large_too(tmp_path, codec):
    """It was `decode: libav gave up`."""
    path = write_video(tmp_path / "a.mkv", 1, size=(7000, 6000), codec=codec)
    error = failure(path)
    assert error.reason is Reason.TOO_LARGE
    assert "7000x6000" in error.detail


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.0])
def test_sound_that_is_cut_off_costs_no_picture(tmp_path, kept):
    """Libav ends at the first sample that is missing, whosever it is."""
    front = {"movflags": "faststart"}
    path = write_video(tmp_path / "a.mp4", 30, with_sound=True, container_options=front)
    start = put_sound_behind(path)
    data = path.read_bytes()
    path.write_bytes(data[: start + int(kept * (len(data) - start))])
    assert numbers(decode(path)) == list(range(30))


def test_every_container_is_read_to_its_own_end(tmp_path):
    """What libav takes for the end is compared with the index of the file."""
    path = write_video(tmp_path / "a.mp4", 30)
    with path.open("rb") as file, opened(file, Video(str(path), "a")) as source:
        list(packets(source))
        few = replace(source, container=SimpleNamespace(demux=lambda _: iter(())))
        with pytest.raises(VideoError, match="ends after 0 frames, its index has 30"):
            list(packets(few))
        assert list(packets(few, from_start=False)) == []


BROWSER = {  # stamps of a recording by a browser: they vary, and no rate is written
    "jitter": np.cumsum(np.random.default_rng(0).integers(25, 45, 60)),
    "first_close": np.concatenate([[0, 1, 2], 3 + np.arange(1, 58) * 33]),
}


@pytest.mark.parametrize("name", BROWSER)
def test_a_webm_that_states_no_rate_has_that_of_its_frames(tmp_path, name):
    """Libav answers 1000, the unit of the stamps."""
    stamps = BROWSER[name].tolist()
    path = write_video(
        tmp_path / "a.webm",
        len(stamps),
        codec="libvpx",
        pts=stamps,
        options={"deadline": "realtime"},
    )
    data = path.read_bytes()
    place = data.index(b"\x23\xe3\x83")  # DefaultDuration becomes Void
    length = data[place + 3] & 0x7F
    void = b"\xec" + bytes([0x80 | (length + 2)]) + bytes(length + 2)
    path.write_bytes(data[:place] + void + data[place + 4 + length :])
    chunks = decode(path)
    true = (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1000
    assert chunks[0].info.frames_per_second == pytest.approx(true, rel=0.05)
    assert times(chunks) == pytest.approx([(stamp - stamps[0]) / 1000 for stamp in stamps])

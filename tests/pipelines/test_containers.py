"""What is refused before a frame is decoded, and why."""

from __future__ import annotations

import av
import pytest
from decoded import failure
from made_videos import (
    write_sound,
    write_video,
)

from pipelines.containers import to_video_error
from pipelines.errors import Reason, VideoError
from pipelines.pictures import check_size


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


@pytest.mark.parametrize(("width", "height"), [(8193, 1), (1, 8193), (8192, 8192)])
def test_sizes_over_the_cap_are_refused(width, height):
    with pytest.raises(VideoError, match="too_large"):
        check_size(width, height)
    check_size(8192, 4320)

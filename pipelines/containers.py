"""Video files opened and checked before anything is decoded; library errors given a reason.

Only demuxers and decoders of the lists below are ever tried: libav also reads playlists and
scripts that name other files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import av

from pipelines.errors import Reason, VideoError
from pipelines.integrity import Structure, read_structure
from pipelines.pictures import MAX_PIXELS, check_size
from pipelines.schema import Video
from pipelines.storage import StorageError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"}
)
FORMATS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts")
CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx-vp9", "mpeg1video"),
    *("mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4", "h263", "mjpeg", "png", "prores", "dnxhd"),
    *("ffv1", "huffyuv", "rawvideo", "wmv2"),
)
DEFAULT_RATE = 30.0

# libav's exceptions, most special first. Only `detail` below reaches the user.
_REASONS: tuple[tuple[type[BaseException], Reason, str], ...] = (
    (FileNotFoundError, Reason.NOT_FOUND, "no such file"),
    (PermissionError, Reason.ACCESS_DENIED, "no permission to read it"),
    # libav's own checks answer with these two when a damaged header asks for gigabytes, or points
    # behind the end; trouble with the disk or with memory arrives as Python's exceptions
    (av.error.MemoryError, Reason.DECODE, "invalid data (a header that asks for too much)"),
    (av.error.OSError, Reason.DECODE, "invalid data (a header that points outside)"),
    (MemoryError, Reason.OUT_OF_MEMORY, "not enough memory to decode it"),
    (av.error.DecoderNotFoundError, Reason.UNSUPPORTED_CODEC, "no decoder for its codec"),
    (av.error.PatchWelcomeError, Reason.UNSUPPORTED_CODEC, "a variant that libav cannot decode"),
    (av.error.InvalidDataError, Reason.DECODE, "invalid data"),
    (EOFError, Reason.TRUNCATED, "the file ends too early"),
    (av.error.FFmpegError, Reason.DECODE, "libav gave up"),
    (OSError, Reason.STORAGE, "reading failed"),
)


def to_video_error(error: BaseException, frame: int | None = None) -> VideoError:
    """The reason and one line for any exception of a library.

    Args:
        error: What was raised while a video was read.
        frame: Frames decoded before.
    """
    if isinstance(error, VideoError):
        return error
    if isinstance(error, StorageError):
        return VideoError(Reason.STORAGE, str(error), frame)
    if isinstance(error, OSError) and error.errno == errno.EINVAL:  # a seek before the start
        return VideoError(Reason.DECODE, "invalid data (a header that points outside)", frame)
    for kind, reason, detail in _REASONS:
        if isinstance(error, kind):
            return VideoError(reason, detail, frame)
    return VideoError(Reason.INTERNAL, f"{type(error).__name__}: {error}", frame)


@dataclass
class Opened:
    """An open container with what is needed to read its frames."""

    container: Any
    stream: Any
    structure: Structure
    num_bytes: int
    rate: float


@contextmanager
def opened(file: BinaryIO, video: Video) -> Iterator[Opened]:
    """A container whose first video stream may be decoded: format, codec and size are accepted.

    Raises:
        VideoError: `empty`, `encrypted`, `unsupported_format`, `unsupported_codec`,
            `no_video_stream`, `too_large` or `truncated`.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    if num_bytes == 0:
        raise VideoError(Reason.EMPTY, "the file has 0 bytes")
    structure = read_structure(file, num_bytes)
    if structure.is_encrypted:
        raise VideoError(Reason.ENCRYPTED, "its video is encrypted")
    if not structure.has_index:
        raise VideoError(Reason.TRUNCATED, "its index (moov) is missing or cut off", 0)
    file.seek(0)
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(CODECS),
        "max_pixels": str(MAX_PIXELS),
        "enable_drefs": "0",
    }
    try:
        container = av.open(file, options=options, metadata_errors="replace", timeout=None)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise _refusal(error, structure, num_bytes) from error
    with container:
        try:
            stream = _video_stream(container)
        except VideoError as error:
            raise _refusal(error, structure, num_bytes) from error
        rate = video.frames_per_second or _nominal_rate(stream)
        yield Opened(container, stream, structure, num_bytes, rate)


def packets(source: Opened) -> Iterator[Any]:
    """Packets of the video; an empty one at the end makes the decoder give its last frames."""
    while True:
        try:
            yield from source.container.demux(source.stream)
            return
        except IndexError:  # PyAV on a packet of a stream that was not there at the start (TS)
            continue


def _refusal(error: Exception, structure: Structure, num_bytes: int) -> VideoError:
    """Why a container cannot be decoded; a file that is cut off says so first."""
    if not isinstance(error, av.error.FFmpegError | VideoError):  # of the file, not what it holds
        return to_video_error(error)
    if structure.promised_bytes > num_bytes:
        return VideoError(Reason.TRUNCATED, cut_detail(structure, num_bytes), 0)
    if isinstance(error, VideoError):
        return error
    accepted = "mp4, mov, mkv, webm, avi, ts and folders of images"
    return VideoError(Reason.UNSUPPORTED_FORMAT, f"no video file; accepted are {accepted}")


def cut_detail(structure: Structure, num_bytes: int) -> str:
    """How much of a file is missing, in one line."""
    return f"the file has {num_bytes} bytes, its structure says {structure.promised_bytes}"


def _video_stream(container: Any) -> Any:
    streams = [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]
    if not streams:
        raise VideoError(Reason.NO_VIDEO_STREAM, "no video in it, only sound or data")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None or context.name not in CODECS:
        name = "unknown" if context is None else context.name
        detail = f"got codec {name}, accepted are h264, hevc, av1, vp8, vp9, mpeg and mjpeg kinds"
        raise VideoError(Reason.UNSUPPORTED_CODEC, detail)
    check_size(context.width, context.height)
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def promised_frames(source: Opened) -> int:
    """Frames of the video by its header, 0 where that says nothing; nobody relies on it."""
    stream, container = source.stream, source.container
    if stream.frames > 0:
        return int(stream.frames)
    seconds = 0.0
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    return round(seconds * source.rate) if 0 < seconds < 1e9 else 0


_ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC: cover art of a sound file


def _nominal_rate(stream: Any) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.01 <= rate <= 1000:
            return float(rate)
    return DEFAULT_RATE

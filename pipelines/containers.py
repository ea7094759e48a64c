"""Video files: opening, checking, decoding one after the other, with honest errors.

* Only demuxers and decoders of the lists below are ever tried: libav also reads playlists and
  scripts that name other files.
* One thread decodes, and no hardware: the same file gives the same pixels.
* The frame number is the rank in decode output order. The container's own frame count and rate
  are not believed; they lie where the rate varies.
* The time is the presentation time stamp from the container's start. Where it is missing or does
  not rise it is `frame_index / frames_per_second`, or one frame after the last time.
* Pixels are as swscale sees their tags: BT.709, BT.2020 or BT.601 matrix and limited or full
  range; without a tag BT.601 limited, as OpenCV does. Non-square pixels stay as they are stored.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from pipelines.errors import Reason, VideoError
from pipelines.integrity import Structure, read_structure
from pipelines.pictures import MAX_PIXELS, Picture, RGBArray, check_size
from pipelines.schema import Video, VideoInfo

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
_LEAD_IN_PACKETS = 1000  # a recording may start between keyframes: so many may fail to decode

# libav's exceptions, most special first. Only `detail` below reaches the user.
_REASONS: tuple[tuple[type[BaseException], Reason, str], ...] = (
    (FileNotFoundError, Reason.NOT_FOUND, "no such file"),
    (PermissionError, Reason.ACCESS_DENIED, "no permission to read it"),
    (MemoryError, Reason.OUT_OF_MEMORY, "not enough memory to decode it"),
    (av.error.DecoderNotFoundError, Reason.UNSUPPORTED_CODEC, "no decoder for its codec"),
    (av.error.PatchWelcomeError, Reason.UNSUPPORTED_CODEC, "a variant that libav cannot decode"),
    (av.error.InvalidDataError, Reason.DECODE, "invalid data"),
    (EOFError, Reason.TRUNCATED, "the file ends too early"),
    (av.error.OSError, Reason.STORAGE, "reading failed"),
    (OSError, Reason.STORAGE, "reading failed"),
    (av.error.FFmpegError, Reason.DECODE, "libav gave up"),
)


def to_video_error(error: BaseException, frame: int | None = None) -> VideoError:
    """The reason and one line for any exception of a library.

    Args:
        error: What was raised while a video was read.
        frame: Frames decoded before.
    """
    if isinstance(error, VideoError):
        return error
    for kind, reason, detail in _REASONS:
        if isinstance(error, kind):
            return VideoError(reason, detail, frame)
    return VideoError(Reason.INTERNAL, f"{type(error).__name__}: {error}", frame)


def open_source(uri: str) -> BinaryIO:
    """Bytes of a source, seekable.

    Raises:
        VideoError: `not_found`, `access_denied` or `unsupported_format` (not a regular file).
    """
    try:
        if not stat.S_ISREG(os.stat(uri).st_mode):
            raise VideoError(Reason.UNSUPPORTED_FORMAT, f"not a regular file: {uri}")
        return open(uri, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise to_video_error(error) from error


@dataclass
class _Opened:
    """An open container with what is needed to read its frames."""

    container: Any
    stream: Any
    structure: Structure
    num_bytes: int
    rate: float


def container_pictures(video: Video) -> Iterator[Picture]:
    """Every frame of a video file in decode output order.

    Raises:
        VideoError: Of any reason that says why the file cannot be read to its end, with the
            number of frames decoded before.
    """
    with open_source(video.uri) as file:
        before = os.fstat(file.fileno())
        try:
            with _opened(file, video) as opened:
                yield from _Decoding(opened).pictures()
        except (VideoError, av.error.FFmpegError, OSError):
            _check_unchanged(file, before)  # a file still being written looks cut off
            raise
        _check_unchanged(file, before)


def _check_unchanged(file: BinaryIO, before: os.stat_result) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise VideoError(Reason.CHANGED_DURING_READ, "the file was written to while it was read")


@contextmanager
def _opened(file: BinaryIO, video: Video) -> Iterator[_Opened]:
    num_bytes = file.seek(0, os.SEEK_END)
    if num_bytes == 0:
        raise VideoError(Reason.EMPTY, "the file has 0 bytes")
    structure = read_structure(file, num_bytes)
    if structure.is_encrypted:
        raise VideoError(Reason.ENCRYPTED, "its video is encrypted")
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
        stream = _video_stream(container)
        rate = video.frames_per_second or _nominal_rate(stream)
        yield _Opened(container, stream, structure, num_bytes, rate)


def _refusal(error: Exception, structure: Structure, num_bytes: int) -> VideoError:
    if isinstance(error, PermissionError | MemoryError):
        return to_video_error(error)
    if structure.container == "iso" and not structure.has_index:
        return VideoError(Reason.TRUNCATED, "its index (moov) is missing: recording was cut off", 0)
    if structure.promised_bytes > num_bytes:
        return VideoError(Reason.TRUNCATED, _cut_detail(structure, num_bytes), 0)
    accepted = "mp4, mov, mkv, webm, avi, ts and folders of images"
    return VideoError(Reason.UNSUPPORTED_FORMAT, f"no video file; accepted are {accepted}")


def _cut_detail(structure: Structure, num_bytes: int) -> str:
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


_ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC: cover art of a sound file


def _nominal_rate(stream: Any) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.01 <= rate <= 1000:
            return float(rate)
    return DEFAULT_RATE


class _Decoding:
    """State of one pass over the frames of an open container."""

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened
        self._clock = _Clock(opened)
        self._scaler = VideoReformatter()
        self._info: VideoInfo | None = None
        self._orientation = _UPRIGHT
        self._count = 0
        self._is_end_damaged = False  # of what was seen last

    def pictures(self) -> Iterator[Picture]:
        self._refuse_cut_file()
        for packet in self._packets():
            for frame in self._decode(packet):
                yield self._picture(frame)
        if self._count == 0:
            raise VideoError(Reason.EMPTY, "no frame in it")
        if self._is_end_damaged:
            raise VideoError(Reason.TRUNCATED, "its last frame is cut off", self._count)

    def _refuse_cut_file(self) -> None:
        """Fail before anything is decoded: the frames that are there would be thrown away."""
        opened = self._opened
        structure = opened.structure
        if structure.promised_bytes <= opened.num_bytes:
            return
        if structure.container == "iso" and not structure.is_fragmented:
            entries = opened.stream.index_entries
            present = sum(entry.pos + entry.size <= opened.num_bytes for entry in entries)
            if len(entries) and present == len(entries):
                return  # every frame is there, only the box around them says more
        else:
            present = self._count_packets()
        raise VideoError(Reason.TRUNCATED, _cut_detail(structure, opened.num_bytes), present)

    def _count_packets(self) -> int:
        count = 0
        try:
            for packet in self._opened.container.demux(self._opened.stream):
                count += bool(packet.size) and not packet.is_corrupt
        except (av.error.FFmpegError, OSError):
            return count
        return count

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in self._opened.container.demux(self._opened.stream):
                if packet.size:
                    self._is_end_damaged = packet.is_corrupt
                yield packet
        except av.error.InvalidDataError as error:  # libav: the next sample is not in the file
            raise VideoError(Reason.TRUNCATED, "the file ends too early", self._count) from error
        except (av.error.FFmpegError, OSError) as error:
            raise to_video_error(error, self._count) from error

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = packet.decode()
        except av.error.EOFError:
            return []
        except av.error.InvalidDataError as error:
            return self._after_invalid_data(packet, error)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise to_video_error(error, self._count) from error
        return frames

    def _after_invalid_data(self, packet: Any, error: Exception) -> list[Any]:
        self._lead_in = getattr(self, "_lead_in", 0) + 1
        if self._count == 0 and self._lead_in <= _LEAD_IN_PACKETS:
            return []
        raise to_video_error(error, self._count) from error

    def _picture(self, frame: Any) -> Picture:
        check_size(frame.width, frame.height, self._count)
        if self._info is None:
            self._orientation = _orientation(frame)
            sides = (frame.width, frame.height)
            width, height = sides[::-1] if self._orientation.is_transposed else sides
            self._info = VideoInfo(width, height, self._opened.rate)
        index = self._count
        self._count += 1
        self._is_end_damaged = bool(frame.is_corrupt)

        def scaled(width: int, height: int) -> RGBArray:
            return self._convert(frame, width, height, index)

        time_s = self._clock.time_s(index, frame.pts)
        return Picture(index, time_s, self._info, scaled, self._is_end_damaged)

    def _convert(self, frame: Any, width: int, height: int, index: int) -> RGBArray:
        if self._orientation.is_transposed:
            width, height = height, width
        try:
            rgb = self._scaler.reformat(
                frame, width, height, "rgb24", interpolation=_INTERPOLATION, threads=1
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(Reason.DECODE, "its pixels cannot be converted", index) from error
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            :height, : width * 3
        ]
        return self._orientation.apply(rows.reshape(height, width, 3))


_INTERPOLATION = Interpolation.AREA


@dataclass(frozen=True)
class _Orientation:
    """How a stored frame is turned for display: transposed first, then mirrored."""

    is_transposed: bool = False
    is_mirrored_x: bool = False
    is_mirrored_y: bool = False

    def apply(self, image: RGBArray) -> RGBArray:
        if self.is_transposed:
            image = image.transpose(1, 0, 2)
        step_y, step_x = (-1 if m else 1 for m in (self.is_mirrored_y, self.is_mirrored_x))
        return image[::step_y, ::step_x]


_UPRIGHT = _Orientation()


def _orientation(frame: Any) -> _Orientation:
    """From the display matrix; angles that are no quarter turn are left as they are."""
    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return _UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(matrix)[:36])
    if abs(a) > 4 * abs(b) and abs(d) > 4 * abs(c):
        return _Orientation(False, a < 0, d < 0)
    if abs(b) > 4 * abs(a) and abs(c) > 4 * abs(d):
        return _Orientation(True, c < 0, b < 0)
    return _UPRIGHT


class _Clock:
    """Presentation times that always rise."""

    def __init__(self, opened: _Opened) -> None:
        self._rate = opened.rate
        self._base = float(opened.stream.time_base or 0)
        self._start = (opened.container.start_time or 0) / av.time_base
        # AVI stores no presentation times: with reordered frames libav passes decode times on
        has_times = not (
            opened.structure.container == "avi" and opened.stream.codec_context.has_b_frames
        )
        self._has_times = has_times and self._base > 0
        self._last = -np.inf

    def time_s(self, index: int, pts: int | None) -> float:
        time = index / self._rate
        if pts is not None and self._has_times and pts * self._base - self._start > self._last:
            time = pts * self._base - self._start
        if time <= self._last:
            time = self._last + 1 / self._rate
        self._last = time
        return time

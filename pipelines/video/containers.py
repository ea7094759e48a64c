"""Open and check video files before decoding, and map library errors to reasons.

Only the demuxers and decoders listed below are used, since libav also reads playlists and scripts
that refer to other files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
from av.stream import Discard

from jde_ray.pipelines.errors import CutShortError, Reason, VideoError
from jde_ray.pipelines.storage.s3_client import StorageError
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.container_structure import Structure, read_structure
from jde_ray.pipelines.video.frame import MAX_PIXELS, check_size
from jde_ray.pipelines.video.matroska import Walk, Watched

FORMATS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts")
CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx-vp9", "mpeg1video"),
    *("mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4", "h263", "mjpeg", "png", "prores", "dnxhd"),
    *("ffv1", "huffyuv", "rawvideo", "wmv2"),
)
IMAGE_CODECS = ("mjpeg", "png")  # packets are checked first, so opening a file decodes none
DEFAULT_RATE = 30.0
_HIGHEST_RATE = 240.0  # higher rates in headers are ignored: libav may use the unit of the stamps
_MOST_MEASURED = 240  # packets read to measure the frame rate

# libav's exceptions, most specific first. Users see only the text in the last column.
_REASONS: tuple[tuple[type[BaseException], Reason, str], ...] = (
    (FileNotFoundError, Reason.NOT_FOUND, "no such file"),
    (PermissionError, Reason.ACCESS_DENIED, "no permission to read it"),
    # libav's own checks raise these two if a damaged header asks for gigabytes or points beyond the
    # end of the file; disk and memory errors are raised as Python's exceptions
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
    """Map any exception of a library to a reason and a detail of one line.

    Args:
        error: Exception raised while a video was read.
        frame: Number of frames decoded before.
    """
    if isinstance(error, VideoError):
        return error
    if isinstance(error, StorageError):
        return VideoError(Reason.STORAGE, str(error), frame)
    if isinstance(error, OSError) and error.errno == errno.EINVAL:  # a seek before the start
        return VideoError(Reason.DECODE, "invalid data (a header that points outside)", frame)
    if isinstance(error, PermissionError) and error.errno is None:  # says what a store answered
        return VideoError(Reason.ACCESS_DENIED, str(error), frame)
    for kind, reason, detail in _REASONS:
        if isinstance(error, kind):
            said = getattr(error, "strerror", None) if reason is Reason.STORAGE else None
            return VideoError(reason, f"{detail} ({said})" if said else detail, frame)
    return VideoError(Reason.INTERNAL, f"{type(error).__name__}: {error}", frame)


@dataclass
class Opened:
    """An open container and the data needed to read its frames."""

    container: Any
    stream: Any
    structure: Structure
    num_bytes: int
    rate: float
    walk: Walk | None = None  # for a Matroska file


@contextmanager
def opened(file: BinaryIO, video: Video) -> Iterator[Opened]:
    """Open a container and check format, codec and size of its first video stream.

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
        "codec_whitelist": ",".join(set(CODECS) - set(IMAGE_CODECS)),
        "max_pixels": str(MAX_PIXELS),
        "enable_drefs": "0",
    }
    try:
        watched = Watched(file, num_bytes) if structure.container == "matroska" else None
        container = av.open(
            watched or file, options=options, metadata_errors="replace", timeout=None
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise _refusal(error, structure, num_bytes) from error
    with container:
        try:
            stream = _video_stream(container)
            if stream.codec_context.width == 0:
                _check_declared_size(file, options, stream.index)
        except VideoError as error:
            raise _refusal(error, structure, num_bytes) from error
        _read_only(container, stream)
        rate = video.frames_per_second or _nominal_rate(stream)
        rate = rate or _measured_rate(file, options, stream.index) or DEFAULT_RATE
        walk = None if watched is None else watched.walk
        yield Opened(container, stream, structure, num_bytes, rate, walk)


def packets(source: Opened, *, from_start: bool = True) -> Iterator[Any]:
    """Packets of the video; an empty one at the end makes the decoder return its last frames.

    Args:
        source: Container to read.
        from_start: Whether all packets are read, without a seek before.

    Raises:
        VideoError: `decode`, if libav reports the end before the end of the file's index.
    """
    count, is_shown_whole = 0, source.stream.id in source.structure.samples
    while True:
        try:
            for packet in source.container.demux(source.stream):
                # an edit list may discard packets; if it shows all, damaged stamps discard them
                count += bool(packet.size) and not (packet.is_discard and is_shown_whole)
                yield packet
            break
        except IndexError:  # PyAV raises it for a packet of a stream that starts later (TS)
            continue
    if from_start:
        _refuse_missing(source, count)


def packets_before_damage(source: Opened, cut: VideoError | None = None) -> Iterator[Any]:
    """All packets of the video, as `packets` yields them, or those before its damage.

    The decoder is not made to return its last frames before the file was read to its end: in front
    of them others may be missing.

    Args:
        source: Container to read from its start.
        cut: The error of a file that is known to be truncated.

    Raises:
        CutShortError: At damage, if no packet is missing before it.
        VideoError: At damage, if some may be missing; or for another reason.
    """
    count, last, ends = 0, None, []
    try:
        for packet in packets(source):
            if cut is not None and (packet.is_corrupt or not packet.size):
                raise cut
            walk = source.walk
            if walk is not None and walk.damage and (packet.pos or 0) >= walk.damage_at:
                raise VideoError(Reason.DECODE, f"invalid data ({walk.damage})")
            if packet.size:
                count, last = count + (not packet.is_discard), packet
                yield packet
            else:
                ends.append(packet)
        yield from ends
    except (VideoError, av.error.InvalidDataError) as error:  # the next sample is not in the file
        if isinstance(error, VideoError):
            damage = error
        else:
            damage = cut or VideoError(Reason.TRUNCATED, "the file ends too early")
        if _are_first(source, count, last):
            damage = CutShortError.if_damage(damage, count)
        raise damage from error


def _are_first(source: Opened, count: int, last: Any) -> bool:
    """Whether `count` packets, up to the `last` one, are the first ones of the file."""
    structure, index = source.structure, source.stream.index_entries
    if source.walk is not None:
        return count == _num_blocks(source, source.walk)  # up to damage that it has found
    if structure.container != "iso":
        return True  # nothing numbers their frames
    is_indexed = 0 < count <= len(index) and not structure.is_damaged
    return is_indexed and bool(index[count - 1].timestamp == last.dts)


def _refuse_missing(source: Opened, count: int) -> None:
    """Refuse a damaged file, at which libav stops or from which it skips data without an error."""
    promised, where = 0, "index"
    if source.walk is not None:
        if source.walk.damage:
            detail = f"invalid data ({source.walk.damage})"
            raise VideoError(Reason.DECODE, detail, count)
        promised, where = _num_blocks(source, source.walk), "structure"
    elif source.structure.container == "iso":
        if source.structure.is_damaged:
            raise VideoError(Reason.DECODE, "invalid data (its fragments are damaged)", count)
        entries = source.stream.index_entries
        promised = source.structure.samples.get(source.stream.id, 0)
        if count < max(promised, len(entries)):  # samples without bytes are not packets
            num_empty = sum(entry.size == 0 for entry in entries)
            promised = max(promised, len(entries)) - num_empty
    if count < promised:
        detail = f"the file ends after {count} frames, its {where} has {promised}"
        raise VideoError(Reason.DECODE, detail, count)


def _num_blocks(source: Opened, walk: Walk) -> int:
    """Number of blocks of the stream; 0 if its track is not known."""
    streams = _pictures(source.container)
    tracks = walk.video_tracks
    if len(tracks) != len(streams):
        return 0
    return walk.blocks[tracks[streams.index(source.stream)]]


def _refusal(error: Exception, structure: Structure, num_bytes: int) -> VideoError:
    """Why a container cannot be decoded; truncation takes precedence over other reasons."""
    if not isinstance(error, av.error.FFmpegError | VideoError):  # reading failed, not decoding
        return to_video_error(error)
    if structure.promised_bytes > num_bytes:
        return VideoError(Reason.TRUNCATED, cut_detail(structure, num_bytes), 0)
    if isinstance(error, VideoError):
        return error
    accepted = "mp4, mov, mkv, webm, avi, ts and folders of images"
    return VideoError(Reason.UNSUPPORTED_FORMAT, f"no video file; expected {accepted}")


def cut_detail(structure: Structure, num_bytes: int) -> str:
    """One line with the length of a truncated file and the length it should have."""
    return f"the file has {num_bytes} bytes, its structure says {structure.promised_bytes}"


def _pictures(container: Any) -> list[Any]:
    """Video streams, without the cover art of a sound file."""
    return [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]


def _video_stream(container: Any) -> Any:
    streams = _pictures(container)
    if not streams:
        raise VideoError(Reason.NO_VIDEO_STREAM, "no video in it, only sound or data")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None or context.name not in CODECS:
        name = "unknown" if context is None else context.name
        detail = f"got codec {name}, expected h264, hevc, av1, vp8, vp9, mpeg and mjpeg kinds"
        raise VideoError(Reason.UNSUPPORTED_CODEC, detail)
    check_size(context.width, context.height)
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def promised_frames(source: Opened) -> int:
    """Number of frames stated by the header, 0 if it states none; only an estimate."""
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


def _read_only(container: Any, stream: Any) -> None:
    """Discard the other streams, since missing sound would end the video too."""
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all


def _nominal_rate(stream: Any) -> float | None:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.01 <= rate <= _HIGHEST_RATE:
            return float(rate)
    return None


@contextmanager
def _another_look(file: BinaryIO, options: dict[str, str]) -> Iterator[Any]:
    """Open the same file again; the container that is already open keeps its position."""
    position = file.tell()
    file.seek(0)
    try:
        with av.open(file, options=options, metadata_errors="replace", timeout=None) as container:
            yield container
    finally:
        file.seek(position)


def _measured_rate(file: BinaryIO, options: dict[str, str], index: int) -> float | None:
    """Frames per second measured on the first packets; files written by browsers state no rate."""
    stamps: list[int] = []
    with suppress(av.error.FFmpegError, OSError), _another_look(file, options) as container:
        stream = container.streams[index]
        _read_only(container, stream)
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                stamps.append(packet.pts)
            if len(stamps) == _MOST_MEASURED:
                break
        seconds = float((max(stamps) - min(stamps)) * stream.time_base) if stamps else 0.0
        rate = (len(stamps) - 1) / seconds if seconds > 0 else 0.0
        return rate if 0.01 <= rate <= 1000 else None
    return None


def _check_declared_size(file: BinaryIO, options: dict[str, str], index: int) -> None:
    """Refuse a video whose header states too large a size, before libav drops that information.

    Raises:
        VideoError: `too_large`.
    """
    blind = {**options, "codec_whitelist": "none"}  # without any decoder
    with suppress(av.error.FFmpegError, OSError), _another_look(file, blind) as container:
        stream = container.streams[index]
        check_size(stream.width, stream.height)

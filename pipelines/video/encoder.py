"""Frames to H.264 files, and the sound of their source beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Discard

from jde_ray.pipelines.errors import ExitCode, RunError, one_line
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.containers import FORMATS
from jde_ray.pipelines.video.frame import Image
from jde_ray.pipelines.video.source_file import source_file

_TICKS = 90_000  # per second; frames of all usual rates last an integer number of ticks
_ENCODERS = ("libx264", "libopenh264")
_QUALITY = {
    "libx264": {"crf": "23", "preset": "veryfast"},
    "libopenh264": {"b": "4000000"},
}
_FASTSTART = {"movflags": "+faststart"}
_SOUND = ("aac", "mp3", "opus", "ac3", "eac3")  # as mp4 carries them
_SOUND_DECODERS = (*_SOUND, "mp3float", "libopus")  # libav may learn a stream's properties by them


def write_video(frames: Iterable[tuple[float, Image]], out: Path, frames_per_second: float) -> int:
    """Write frames as H.264 (yuv420p, constant quality, index in front) that a browser plays.

    Args:
        frames: Presentation time in seconds, rising, and `(H, W, 3)` uint8 RGB of one size. Odd
            sizes grow by a repeated row or column, since the format requires even ones.
        out: Path of the mp4 file, which appears once it is complete.
        frames_per_second: Nominal rate, for players.

    Returns:
        Number of frames written.

    Raises:
        RunError: If this build of PyAV has no H.264 encoder.
        ValueError: If there are no frames.
    """
    with _part_of(out) as part:
        count = _encode(frames, part, frames_per_second)
        if not count:
            raise ValueError(f"{out}: got no frames, expected at least one")
        os.replace(part, out)
    return count


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A path beside `path` for its new content; a file that is left there is removed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _encode(frames: Iterable[tuple[float, Image]], path: Path, frames_per_second: float) -> int:
    encoder = _find_encoder()
    rate = Fraction(frames_per_second).limit_denominator(1001)
    count, last = 0, -1
    with av.open(str(path), "w", format="mp4", container_options=_FASTSTART) as container:
        stream: Any = None
        for time_s, image in frames:
            height, width = image.shape[:2]
            if stream is None:
                stream = container.add_stream(encoder, rate=rate, options=dict(_QUALITY[encoder]))
                stream.width, stream.height = width + width % 2, height + height % 2
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, _TICKS)
            odd = ((0, height % 2), (0, width % 2), (0, 0))
            even = np.ascontiguousarray(np.pad(image, odd, mode="edge"))
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            last = max(round(time_s * _TICKS), last + 1)
            frame.pts, frame.time_base = last, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    return count


def _find_encoder() -> str:
    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise RunError(
        f"save-video: this PyAV has no H.264 encoder, expected {' | '.join(_ENCODERS)}",
        ExitCode.REFUSED,
    )


def copy_sound(video: Video, path: Path) -> str:
    """Put the source's sound into a video of its frames, in sync and without encoding it again.

    The frames' times must count from the start of the source's container. Sound after the last
    frame is left out. Whatever is wrong with the sound, the pictures stay as they are.

    Args:
        video: The source.
        path: An mp4 file of its frames, which is replaced.

    Returns:
        Why it has no sound, or not all of it, in one line; empty if the source has none.
    """
    if video.is_image_folder:
        return ""
    try:
        with _part_of(path) as part, source_file(video.uri) as file:
            said = _merge(file, path, part)
            if part.exists():
                os.replace(part, path)
    except Exception as error:  # noqa: BLE001  sound never costs the pictures
        return one_line(f"{type(error).__name__}: {error}")
    return said


def _merge(file: BinaryIO, path: Path, part: Path) -> str:
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(_SOUND_DECODERS),
        "enable_drefs": "0",
    }
    damage: list[str] = []
    source: Any = av.open(file, options=options, metadata_errors="replace", timeout=None)
    with source:
        sound = source.streams.best("audio")
        if sound is None:
            return ""
        context = sound.codec_context
        codec = "unknown" if context is None else context.codec.canonical_name
        if codec not in _SOUND:
            return f"got sound in {codec}, expected {', '.join(_SOUND)}"
        start = (source.start_time or 0) / av.time_base
        for other in source.streams:
            if other is not sound:
                other.discard = Discard.all
        with (
            av.open(str(path)) as pictures,
            av.open(str(part), "w", format="mp4", container_options=_FASTSTART) as container,
        ):
            drawn: Any = pictures.streams.video[0]
            end = float(((drawn.start_time or 0) + (drawn.duration or 0)) * drawn.time_base)
            streams = [container.add_stream_from_template(one) for one in (drawn, sound)]
            heard = _sound_packets(source, sound, start, end, damage)
            seen = (packet for packet in pictures.demux(drawn) if packet.size)
            both = (_of(seen, streams[0]), _of(heard, streams[1]))
            for packet in merge(*both, key=lambda packet: packet.dts * packet.time_base):
                container.mux(packet)
    return "".join(damage)


def _of(packets: Iterable[Any], stream: Any) -> Iterator[Any]:
    for packet in packets:
        packet.stream = stream
        yield packet


def _sound_packets(
    source: Any, stream: Any, start: float, end: float, damage: list[str]
) -> Iterator[Any]:
    """Packets from the start of the pictures to their end, with rising stamps from 0.

    Args:
        source: Open container of the stream.
        stream: Sound to read.
        start: Time stamp of the first picture's container in seconds.
        end: End of the pictures, in seconds after `start`.
        damage: Gets one line if the sound ends at damage.
    """
    shift, last = round(start / stream.time_base), -1
    try:
        for packet in source.demux(stream):
            if not packet.size or packet.dts is None or packet.pts is None or packet.is_corrupt:
                continue
            packet.dts, packet.pts = packet.dts - shift, packet.pts - shift
            if packet.dts * packet.time_base >= end:
                return
            if packet.dts > last and packet.pts >= 0:
                last = packet.dts
                yield packet
    except (av.error.FFmpegError, OSError) as error:
        damage.append(one_line(f"the sound ends at damage: {error}"))

"""Frames of a `.seq` file, as StreamPix and Piotr Dollar's toolbox write it.

A header of 1024 bytes, little-endian: 0xFEED, `Norpix seq` in UTF-16, version, header size, from
byte 548 nine uint32 (width, height, bits, bits, bytes of a picture, format, frames, 0, stride).
A JPEG or PNG frame is its length N (uint32, which counts its own 4 bytes), N - 4 bytes, a time of
6 bytes, and in most files 10 more, which the second frame tells. Frames of plain pixels all have
the header's stride.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.video.frame import check_size

_HEADER = 1024
_GREY, _BGR = 100, 200
_FILES = {1: ".png", 2: ".png", 102: ".jpg", 201: ".jpg"}  # formats whose frames are files
_PLAIN = {_GREY: 1, _BGR: 3}  # bytes per pixel
_MARGIN = 1 << 16  # bytes of a JPEG or PNG beyond those of its pixels


@dataclass(frozen=True)
class SeqHeader:
    """Facts of the header; sizes in pixels and bytes.

    Attributes:
        width: Width of every frame.
        height: Height of every frame.
        kind: Format of the frames.
        num_frames: Number that the header promises; 0 if it was never filled in.
        stride: Bytes from one frame of plain pixels to the next.
    """

    width: int
    height: int
    kind: int
    num_frames: int
    stride: int


def read_seq_header(path: Path) -> SeqHeader:
    """Read and check the header.

    Raises:
        ValueError: If it is none, or of a size or format that is not read, in one line without the
            file's name.
    """
    try:
        with path.open("rb") as file:
            return _parse(file.read(_HEADER))
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def _parse(data: bytes) -> SeqHeader:
    magic = int.from_bytes(data[:4], "little")
    name = data[4:24].decode("utf-16-le", "replace")
    if len(data) < _HEADER or magic != 0xFEED or name != "Norpix seq":
        raise ValueError("no .seq file: expected 0xFEED and `Norpix seq` at its start")
    (header_size,) = struct.unpack_from("<I", data, 32)
    width, height, _, _, _, kind, num_frames, _, stride = struct.unpack_from("<9I", data, 548)
    if header_size != _HEADER:
        raise ValueError(f"got a header of {header_size} bytes, expected {_HEADER}")
    if min(width, height) < 1:
        raise ValueError(f"got frames of {width}x{height}, expected pixels")
    try:
        check_size(width, height)
    except VideoError as error:
        raise ValueError(error.detail) from error
    if kind not in _FILES and kind not in _PLAIN:
        wanted = ", ".join(map(str, sorted((*_FILES, *_PLAIN))))
        raise ValueError(f"got the format {kind}, expected {wanted}")
    if kind in _PLAIN and stride < width * height * _PLAIN[kind]:
        raise ValueError(f"got a stride of {stride} bytes for frames of {width}x{height}")
    return SeqHeader(width, height, kind, num_frames, stride)


def read_seq(path: Path, wanted: set[int]) -> Iterator[tuple[int, bytes, str]]:
    """Some frames as image files, in order.

    The file ends where its bytes end, whatever its header promises; a short last frame is none.

    Args:
        path: The file.
        wanted: 0-based frames. Those that the file does not have are not returned.

    Yields:
        Frame, bytes of an image file, its suffix. JPEG and PNG are the file's own bytes.

    Raises:
        ValueError: As for `read_seq_header`, or if a length is impossible.
    """
    header = read_seq_header(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        if header.kind in _PLAIN:
            yield from _plain_frames(file, header, size, wanted)
            return
        last = max(wanted, default=-1)
        for frame, (start, length) in enumerate(_spans(file, header, size)):
            if frame > last:
                return
            if frame in wanted:
                file.seek(start)
                yield frame, file.read(length), _FILES[header.kind]


def _spans(file: BinaryIO, header: SeqHeader, size: int) -> Iterator[tuple[int, int]]:
    """Start and length of the image file of each frame."""
    position, padding, frame = _HEADER, 0, 0
    most = 4 * header.width * header.height + _MARGIN
    while not header.num_frames or frame < header.num_frames:
        length = _length(file, position)
        if frame == 1 and length == 0:  # the first frame is followed by 16 bytes, not 8
            padding = 8
            position += padding
            length = _length(file, position)
        if length is None or position + length > size:
            return
        if not 4 < length <= most:
            expected = f"expected 5 to {most} for {header.width}x{header.height} pixels"
            raise ValueError(f"frame {frame} at byte {position}: got {length} bytes, {expected}")
        yield position + 4, length - 4
        position += length + 8 + padding
        frame += 1


def _length(file: BinaryIO, position: int) -> int | None:
    file.seek(position)
    data = file.read(4)
    return int.from_bytes(data, "little") if len(data) == 4 else None


def _plain_frames(
    file: BinaryIO, header: SeqHeader, size: int, wanted: set[int]
) -> Iterator[tuple[int, bytes, str]]:
    channels = _PLAIN[header.kind]
    length = header.width * header.height * channels
    for frame in sorted(wanted):
        start = _HEADER + frame * header.stride
        if start + length > size or 0 < header.num_frames <= frame:
            return
        file.seek(start)
        pixels = np.frombuffer(file.read(length), np.uint8)
        image = pixels.reshape(header.height, header.width, channels)
        yield frame, cv2.imencode(".png", image)[1].tobytes(), ".png"

"""The orientation that EXIF data of a JPEG asks for."""

from __future__ import annotations

import struct
from contextlib import suppress

UPRIGHT = 1
_TAG = 0x0112


def orientation_of(data: bytes) -> int:
    """Orientation of an image, 1 to 8: from 5 on, width and height change places.

    Args:
        data: Its bytes, at least up to the pixels; `UPRIGHT` for all but JPEG.
    """
    for start, end in _segments(data):
        found = _in_directory(data[start + 10 : end])
        if 1 <= found <= 8:
            return found
    return UPRIGHT


def without_exif(data: bytes) -> bytes:
    """The JPEG without EXIF data, so that it is shown as stored; its pixels are the same bytes."""
    for start, end in reversed(_segments(data)):
        data = data[:start] + data[end:]
    return data


def _segments(data: bytes) -> list[tuple[int, int]]:
    """Start and end of the EXIF segments before the pixels of a JPEG."""
    found, position = [], 2
    if data[:2] != b"\xff\xd8":
        return []
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            found.append((position, end))
        position = end
    return found


def _in_directory(tiff: bytes) -> int:
    """Orientation in the first directory of an EXIF segment; upright if it has none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    with suppress(struct.error):
        if order is not None:
            (start,) = struct.unpack_from(f"{order}I", tiff, 4)
            (count,) = struct.unpack_from(f"{order}H", tiff, start)
            for entry in range(start + 2, start + 2 + 12 * count, 12):
                tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
                if tag == _TAG:
                    return int(value)
    return UPRIGHT

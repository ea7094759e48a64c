"""Read and check the headers of images before any memory for pixels is allocated.

Some harmless-looking images of a megabyte keep a decoder busy for minutes: a JPEG with thousands of
scans, each of which passes over all pixels, and a PNG whose compressed texts unpack to gigabytes.
`check_image` refuses the former and removes the texts from the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jde_ray.pipelines.errors import Reason, VideoError

ImageKind = Literal["jpeg", "png", "webp", "bmp"]

MAX_SCANS = 64  # progressive encoders write about ten

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# excludes FF in compressed data (followed by 00), restarts, and repeated FF before a marker
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_MAX_SEGMENTS = 100_000  # a malicious file may contain millions of empty ones


@dataclass(frozen=True)
class ImageHeader:
    """Kind and size of an image.

    Attributes:
        kind: Format according to the first bytes, not to the name or content type.
        width: Width in stored pixels, before any EXIF rotation.
        height: Height in stored pixels.
        is_animated: Whether it is an APNG or an animated WebP.
    """

    kind: ImageKind
    width: int
    height: int
    is_animated: bool = False


def read_header(data: bytes) -> ImageHeader | None:
    """Header of a JPEG, PNG, WebP or BMP; None for anything else and for truncated headers."""
    if data[:8] == _PNG:
        return _png_header(data)
    if data[:2] == _JPEG:
        return _jpeg_header(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_header(data)
    if data[:2] == b"BM" and len(data) >= 26:
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        return ImageHeader("bmp", abs(width), abs(height))
    return None


def reaches_its_end(data: bytes) -> bool:
    """Whether the end marker is present; OpenCV silently fills truncated images with grey."""
    if data[:2] == _JPEG:
        end = data.rfind(_END)
        return end >= 0 and data.find(_SCAN, end) < 0
    if data[:4] == b"RIFF":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return data[:2] == b"BM" or any(kind == b"IEND" for kind, _ in _png_chunks(data))


def check_image(data: bytes, max_scans: int = MAX_SCANS, frame: int | None = None) -> bytes:
    """The bytes of an image that are safe to decode: the time is then bounded by its pixels.

    Args:
        data: A complete image of any format.
        max_scans: Largest number of scans of a JPEG, each of which passes over all pixels.
        frame: Frame number for the error message.

    Returns:
        `data`; for a PNG only the chunks of the picture, since the others (texts, profiles, times)
        do not change the pixels that OpenCV returns.

    Raises:
        VideoError: `too_large`, if a JPEG has more scans.
    """
    if data[:8] == _PNG:
        return _picture_chunks(data)
    if data[:2] == _JPEG and _has_more_scans(data, max_scans):
        raise _too_many_scans(max_scans, frame)
    return data


def check_packet(data: bytes, frame: int) -> bytes:
    """Like `check_image`, for a frame of an MJPEG or PNG video, which libav decodes.

    libav takes the marker of a scan for one at any position, so all positions are counted.

    Raises:
        VideoError: `too_large`.
    """
    is_png = data[:8] == _PNG
    if not is_png and data.count(_SCAN) > MAX_SCANS:
        raise _too_many_scans(MAX_SCANS, frame)
    return _picture_chunks(data) if is_png else data


def _too_many_scans(most: int, frame: int | None) -> VideoError:
    detail = f"got a JPEG of more than {most} scans, expected {most}"
    return VideoError(Reason.TOO_LARGE, detail, frame)


def _has_more_scans(data: bytes, most: int) -> bool:
    """Count scans like libjpeg, which ignores markers inside segments and after the end."""
    if data.count(_SCAN) <= most:
        return False
    position, num_scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None or found[0] == _END:
            return False
        num_scans += found[0] == _SCAN
        if num_scans > most:
            return True
        position = found.end()
        if found[0] != b"\xff\x01":  # the only remaining marker without a segment
            position += int.from_bytes(data[position : position + 2], "big")
    return True


def _picture_chunks(data: bytes) -> bytes:
    """A PNG without ancillary chunks (named with a small first letter), except transparency."""
    kept = [_PNG]
    for kind, place in _png_chunks(data):
        if kind == b"tRNS" or not (kind.isalpha() and kind[:1].islower()):
            kept.append(data[place])
    return b"".join(kept)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    """Kind and place of each chunk of a PNG, to its end; whatever follows that is no chunk."""
    position, kind = 8, b""
    while position + 8 <= len(data) and kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        yield kind, slice(position, end)
        position = end


def _png_header(data: bytes) -> ImageHeader | None:
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    first_pixels = data.find(b"IDAT")
    animated = data.find(b"acTL", 0, first_pixels if first_pixels >= 0 else len(data)) >= 0
    return ImageHeader("png", width, height, animated)


def _jpeg_header(data: bytes) -> ImageHeader | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            position += 1
            continue
        marker = data[position + 1]
        if marker in _JPEG_FRAME_HEADERS:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            return ImageHeader("jpeg", width, height)
        stands_alone = marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9
        length = 0 if stands_alone else int.from_bytes(data[position + 2 : position + 4], "big")
        position += (1 if marker == 0xFF else 2) + length
    return None


def _webp_header(data: bytes) -> ImageHeader | None:
    """Header of any layout: lossy `VP8 `, lossless `VP8L` or extended `VP8X` (RFC 9649)."""
    if len(data) < 30:
        return None
    layout, body = data[12:16], data[20:30]
    if layout == b"VP8 ":
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        return ImageHeader("webp", width, height)
    if layout == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if layout == b"VP8X":
        width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
        return ImageHeader("webp", width, height, is_animated=bool(body[0] & 0x02))
    return None

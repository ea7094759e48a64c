"""Videos stored as one image a frame: MOTChallenge sequences and plain folders.

EXIF orientation is ignored: labels of such sequences are in stored pixels.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipelines.errors import Reason, VideoError
from pipelines.pictures import Picture, RGBArray, check_size
from pipelines.schema import Segment, VideoInfo

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
DEFAULT_RATE = 30.0

_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def is_image(name: str) -> bool:
    """Whether a file name says that it is an image (hidden files never are)."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def sequence_rate(folder: Path) -> float | None:
    """`frameRate` of a MOT sequence's seqinfo.ini, None where it says no positive number."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "seqinfo.ini", encoding="utf-8")
        rate = parser.getfloat("Sequence", "frameRate")
    except (configparser.Error, ValueError, OSError):
        return None
    return rate if 0 < rate <= 1000 else None


def list_images(uri: str) -> list[Path]:
    """Images of a sequence folder (its img1/), a plain folder, or one image, in frame order.

    Numbers in names are compared as numbers, so that 10.jpg follows 9.jpg.
    """
    folder = Path(uri)
    if folder.is_file():
        return [folder]
    if (folder / "img1").is_dir():
        folder = folder / "img1"
    names = [name for name in os.listdir(folder) if is_image(name)]
    return [folder / name for name in sorted(names, key=_frame_order)]


def _frame_order(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], name


def image_pictures(segment: Segment) -> Iterator[Picture]:
    """Frames of an image folder in order; an image is read when its pixels are asked for.

    Args:
        segment: Which frames of which folder.

    Raises:
        VideoError: `not_found`, `empty`, `access_denied`, `too_large` or `decode`; reading an
            image later may raise the last three too.
    """
    video = segment.video
    images = list_images(video.uri)
    if not images:
        raise VideoError(Reason.EMPTY, f"no image in {video.uri}")
    rate = video.frames_per_second or DEFAULT_RATE
    height, width = _read_image(images[0], 0).shape[:2]
    info = VideoInfo(width, height, rate)
    for index in range(segment.start_frame, min(len(images), segment.stop_frame or len(images))):
        path = images[index]

        def scaled(width: int, height: int, path: Path = path, index: int = index) -> RGBArray:
            image = _read_image(path, index)
            if image.shape[:2] == (height, width):
                return image
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            return np.asarray(resized, np.uint8)

        yield Picture(index, index / rate, info, scaled)


def _read_image(path: Path, index: int) -> RGBArray:
    data = path.read_bytes()
    if not data:
        raise VideoError(Reason.EMPTY, f"{path.name} has 0 bytes", index)
    size = _image_size(data)
    if size is None:
        raise VideoError(Reason.UNSUPPORTED_FORMAT, f"{path.name} is no JPEG, PNG or BMP", index)
    check_size(*size, index)
    if not _reaches_its_end(data):
        raise VideoError(Reason.TRUNCATED, f"{path.name} ends too early", index)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise VideoError(Reason.DECODE, f"{path.name} cannot be decoded", index)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header, before any pixel memory is taken."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] == b"BM" and len(data) >= 26:
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        return abs(width), abs(height)
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    return None


def _reaches_its_end(data: bytes) -> bool:
    """Whether the end marker is there: OpenCV fills a cut-off image with grey without a word."""
    if data[:2] == b"\xff\xd8":
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    return data[:2] == b"BM" or b"IEND" in data[-64:]


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            position += 1
            continue
        marker = data[position + 1]
        if marker in _JPEG_FRAME_HEADERS:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return int.from_bytes(data[position + 7 : position + 9], "big"), height
        stands_alone = marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9
        length = 0 if stands_alone else int.from_bytes(data[position + 2 : position + 4], "big")
        position += (1 if marker == 0xFF else 2) + length
    return None

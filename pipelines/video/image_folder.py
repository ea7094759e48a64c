"""Videos stored as one image per frame: MOTChallenge sequences and plain folders.

EXIF orientation is ignored, since labels of such sequences refer to stored pixels.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from jde_ray.pipelines.errors import CutShortError, Reason, VideoError
from jde_ray.pipelines.formats.sequence_info import sequence_rate
from jde_ray.pipelines.structures import DEFAULT_RATE, Segment, VideoInfo
from jde_ray.pipelines.video.frame import Frame, RGBArray, check_size
from jde_ray.pipelines.video.image_headers import check_image, reaches_its_end, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of an image; hidden files do not count."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


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


def images_version(uri: str) -> str:
    """Version of the frames of `list_images(uri)`: names, sizes and times, and the rate.

    Raises:
        OSError: If the folder cannot be read, or an image has disappeared in the meantime.
    """
    images = list_images(uri)
    digest = hashlib.sha256(f"{sequence_rate(Path(uri))}\n".encode())
    for path in images:
        status = path.stat()
        digest.update(os.fsencode(path.name) + f"/{status.st_size}/{status.st_mtime_ns}\n".encode())
    return f"{len(images)}-{digest.hexdigest()[:16]}"


def _frame_order(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], name


def decode_images(segment: Segment) -> Iterator[Frame]:
    """Frames of an image folder in order; an image is read when its pixels are requested.

    Args:
        segment: Folder and range of frames.

    Raises:
        VideoError: `not_found`, `empty`, `access_denied`, `changed_during_read`, `too_large` or
            `decode`; requesting the pixels may also raise the last two.
    """
    video = segment.video
    version = _version(segment)
    images = list_images(video.uri)
    if not images:
        raise VideoError(Reason.EMPTY, f"no image in {video.uri}")
    rate = video.frames_per_second or DEFAULT_RATE
    height, width = read_image_file(images[0], 0).shape[:2]
    info = VideoInfo(width, height, rate, len(images), version=version)
    for index in range(segment.start_frame, min(len(images), segment.stop_frame or len(images))):
        path = images[index]

        def scaled(width: int, height: int, path: Path = path, index: int = index) -> RGBArray:
            try:
                image = read_image_file(path, index)
            except VideoError as error:
                if not segment.keep_partial:
                    raise
                raise CutShortError.if_damage(error) from error
            if image.shape[:2] == (height, width):
                return image
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            return np.asarray(resized, np.uint8)

        yield Frame(index, index / rate, info, scaled)


def _version(segment: Segment) -> str:
    """Version of the folder's images, which must be the segment's if it has one."""
    if not os.path.isdir(segment.video.uri):  # one image, or nothing, which the caller reports
        return ""
    version = images_version(segment.video.uri)
    if segment.version and version != segment.version:
        raise VideoError(Reason.CHANGED_DURING_READ, "images were replaced during the run")
    return version


def read_image_file(
    path: Path, frame: int | None = None, *, apply_orientation: bool = False
) -> RGBArray:
    """Read an image file, checked before it is decoded: the only reader of images from disk.

    Args:
        path: File with the content of a JPEG, PNG or BMP, with any suffix.
        frame: Frame number for error messages.
        apply_orientation: Apply the EXIF orientation; otherwise return the pixels as stored.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        VideoError: `empty`, `unsupported_format`, `too_large`, `truncated` or `decode`.
        OSError: If the file cannot be read.
    """
    data = path.read_bytes()
    if not data:
        raise VideoError(Reason.EMPTY, f"{path.name} has 0 bytes", frame)
    header = read_header(data)
    if header is None or header.kind == "webp":
        raise VideoError(Reason.UNSUPPORTED_FORMAT, f"{path.name} is no JPEG, PNG or BMP", frame)
    check_size(header.width, header.height, frame)
    if not reaches_its_end(data):
        raise VideoError(Reason.TRUNCATED, f"{path.name} ends too early", frame)
    data = check_image(data, frame=frame)
    flags = cv2.IMREAD_COLOR | (0 if apply_orientation else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise VideoError(Reason.DECODE, f"{path.name} cannot be decoded", frame)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

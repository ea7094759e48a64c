"""Image bytes of a client, checked from their headers, then decoded and letterboxed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.video import image_headers
from jde_ray.pipelines.video.camera_motion import Grey, small_grey
from jde_ray.pipelines.video.frame import MAX_SIDE
from jde_ray.pipelines.video.image_headers import MAX_SCANS, reaches_its_end, read_header

# programs that do not know the type send `application/octet-stream`; the first bytes decide
CONTENT_TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
_CURLS_DEFAULT = (
    "application/x-www-form-urlencoded"  # curl --data-binary; other sites' pages are refused
)


@dataclass(frozen=True)
class NetworkFrame:
    """A frame, ready for the detector.

    Attributes:
        pixels: `(H, W, 3)` RGB uint8, letterboxed to the network's size.
        width: Width of the image in source pixels.
        height: Height of the image in source pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    def small_grey(self) -> Grey:
        """The picture in which the camera's motion is estimated."""
        height, width = self.pixels.shape[:2]
        return small_grey(self.pixels, Letterbox(self.width, self.height, width, height))


def check_content_type(content_type: str | None, encoding: str | None) -> None:
    """Refuse a body whose headers show that it is not an image, before it is read.

    Raises:
        Refusal: `unsupported_type`.
    """
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise Refusal(
            Cause.UNSUPPORTED_TYPE, "content-encoding: expected identity (no compression)"
        )
    if content_type is None:
        return
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (*CONTENT_TYPES, _CURLS_DEFAULT):
        accepted = ", ".join(CONTENT_TYPES)
        raise Refusal(Cause.UNSUPPORTED_TYPE, f"content-type: expected {accepted}")


def check_image(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Width and height of an image, from its header, if it may be decoded.

    Args:
        data: The whole body.
        max_pixels: Largest decoded image.

    Raises:
        Refusal: `bad_image`, `unsupported_type` or `too_many_pixels`.
    """
    if not data:
        raise Refusal(Cause.BAD_IMAGE, "image: got 0 bytes, expected a JPEG, PNG or WebP")
    header = read_header(data)
    if header is None or header.kind == "bmp":
        raise Refusal(
            Cause.UNSUPPORTED_TYPE, "image: got another format, expected a JPEG, PNG or WebP"
        )
    if header.is_animated:
        raise Refusal(Cause.UNSUPPORTED_TYPE, "image: got an animation, expected one picture")
    width, height = header.width, header.height
    if min(width, height) < 1:
        raise Refusal(Cause.BAD_IMAGE, f"image: got {width}x{height} pixels")
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        text = f"got {width}x{height}, expected at most {max_pixels} pixels, sides to {MAX_SIDE}"
        raise Refusal(Cause.TOO_MANY_PIXELS, f"image: {text}")
    if not reaches_its_end(data):
        raise Refusal(Cause.BAD_IMAGE, "image: it ends too early")
    return width, height


def decode_image(data: bytes, max_pixels: int, max_scans: int = MAX_SCANS) -> NDArray[np.uint8]:
    """`(H, W, 3)` RGB of an image; EXIF orientation is ignored, as in image folders.

    Args:
        data: The whole body.
        max_pixels: Largest decoded image.
        max_scans: Maximum number of scans of a JPEG; each passes over all pixels.

    Raises:
        Refusal: Those of `check_image`, `too_many_scans`, and `bad_image` if decoding fails.
    """
    width, height = check_image(data, max_pixels)
    try:
        data = image_headers.check_image(data, max_scans)
    except VideoError as error:
        raise Refusal(Cause.TOO_MANY_SCANS, f"image: {error.detail}") from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (height, width):
        raise Refusal(Cause.BAD_IMAGE, "image: it cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def network_size(width: int, height: int, size: tuple[int, int], *, rect: bool) -> tuple[int, int]:
    """Width and height of the network's input for images of one size, as in offline runs."""
    return fitted_size(width, height, size) if rect else size


def to_network(
    data: bytes,
    size: tuple[int, int],
    max_pixels: int,
    *,
    rect: bool = False,
    max_scans: int = MAX_SCANS,
) -> NetworkFrame:
    """Decode and letterbox an image, with the arithmetic of `jde track --resize published`.

    Args:
        data: The whole body.
        size: Width and height of the network's input in pixels.
        max_pixels: Largest decoded image.
        rect: Choose the input's shape by that of the image, with the area of `size`.
        max_scans: Maximum number of scans of a JPEG.

    Raises:
        Refusal: Those of `decode_image`.
    """
    image = decode_image(data, max_pixels, max_scans)
    height, width = image.shape[:2]
    letterbox = Letterbox(width, height, *network_size(width, height, size, rect=rect))
    return NetworkFrame(letterbox.apply(image), width, height)

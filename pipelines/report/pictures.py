"""Pictures embedded in a page."""

from __future__ import annotations

import base64

import cv2

from jde_ray.pipelines.video.frame import Image


def picture_address(image: Image, quality: int = 80) -> str:
    """A picture as the `src` of an image: a `data:` address of a JPEG.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        quality: Of the JPEG, from 0 to 100.
    """
    jpeg = cv2.imencode(".jpg", image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()

"""A frame of an annotated video, as a picture embedded in the page."""

from __future__ import annotations

import logging

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.output.layout import video_key
from jde_ray.pipelines.report.pictures import picture_address
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.video.source_file import source_file

logger = logging.getLogger(__name__)

_WIDTH = 360  # pixels
_QUALITY = 78
_MOST_DECODED = 60  # frames; a wanted frame further from its key frame is not reached


def drawn_frame(store: ObjectStore, video_id: str, share: float) -> str | None:
    """A frame of an annotated video, as the `src` of an image.

    Args:
        store: OUT.
        video_id: A video with an object in `videos/`.
        share: Position in the video, from 0 to 1.

    Returns:
        A `data:` address; None if the video cannot be read, and the reason is logged.
    """
    try:
        with source_file(f"{store.uri.rstrip('/')}/{video_key(video_id)}") as file:
            image = _frame(av.open(file, "r"), share)
    except (VideoError, av.error.FFmpegError, OSError, ValueError) as error:
        logger.warning("%s has no sample in the report: %s", video_id, error)
        return None
    if image is None:
        return None
    height = max(1, round(_WIDTH * image.shape[0] / image.shape[1]))
    small = cv2.resize(image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    return picture_address(np.asarray(small, np.uint8), _QUALITY)


def _frame(container: av.container.InputContainer, share: float) -> NDArray[np.uint8] | None:
    with container:
        stream = container.streams.video[0]
        wanted = round(share * (stream.duration or 0)) + (stream.start_time or 0)
        container.seek(wanted, stream=stream)
        found = None
        for number, frame in enumerate(container.decode(stream)):
            found = frame
            if number >= _MOST_DECODED or (frame.pts or 0) >= wanted:
                break
        return None if found is None else np.asarray(found.to_ndarray(format="rgb24"), np.uint8)

"""The camera's motion for saved detections whose frames are at hand (`--frames`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.detections import SavedFrame, SavedVideo, has_known_size
from jde_ray.pipelines.structures import Segment, Video, VideoInfo
from jde_ray.pipelines.video.chunks import decode_segment

_CHUNK_FRAMES = 8  # frames decoded at once; it changes no number


def with_motion(
    found: Iterator[SavedFrame],
    saved: SavedVideo,
    info: VideoInfo,
    first: int,
    config: TrackConfig,
) -> Iterator[SavedFrame]:
    """The frames with the camera's motion, estimated from the pictures as a run would do it.

    Args:
        found: Frames with their detections.
        saved: Their video, with its `frames`.
        info: Size of the pictures that the detections refer to; those at hand may have another.
        first: Frames before this one need no motion.
        config: Size and form of the network's input, stride and frame limit.

    Raises:
        VideoError: If the pictures cannot be decoded, or are not those of the detections.
    """
    assert saved.frames is not None  # noqa: S101 - callers check it
    motions = _motions(saved.frames, info if has_known_size(saved) else None, first, config)
    for frame in found:
        if frame.frame < first:
            yield frame
            continue
        number, motion = next(motions, (None, None))
        if number != frame.frame:
            detail = f"got {'no frame' if number is None else f'frame {number}'} in"
            text = f"frames: {detail} {saved.frames.uri}, expected frame {frame.frame}"
            raise VideoError(Reason.UNSUPPORTED_FORMAT, text, frame.frame)
        yield frame._replace(camera_motion=motion)


def _motions(
    video: Video, info: VideoInfo | None, first: int, config: TrackConfig
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Frame numbers and motions from `first` on, in pixels of `info`; None: of the pictures."""
    chunks = decode_segment(
        Segment(video, start_frame=first, keep_partial=True),  # damage matters where it is reached
        size=config.detection.size,
        rect=config.detection.rect,
        resize=config.detection.resize,
        chunk_frames=_CHUNK_FRAMES,
        vid_stride=config.vid_stride,
        max_frames=config.max_frames,
        camera_motion=True,
    )
    for chunk in chunks:
        if chunk.error is not None:
            raise chunk.error
        if chunk.camera_motion is None:
            continue
        motions = chunk.camera_motion
        if info is not None:
            motions = _in_pixels_of(info, chunk.info, motions)
        yield from zip(map(int, chunk.frame_index), motions, strict=True)


def _in_pixels_of(
    info: VideoInfo, pictures: VideoInfo, motions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Motions `(n, 2, 3)` of one size of picture as those of another."""
    if (info.width, info.height) == (pictures.width, pictures.height):
        return motions
    scale = np.array([info.width / pictures.width, info.height / pictures.height])
    scaled: NDArray[np.float64] = motions * scale[:, None]
    scaled[:, :, :2] /= scale
    return scaled

"""The tracks of one chunk's frames; what can be done for all of its frames at once is done so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import Detections, Tracks
from jde_ray.models.tracking.reporting import left_out
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.formats.detections import SavedFrame
from jde_ray.pipelines.structures import Counts, DetectionChunk

_STANDING = np.eye(2, 3)  # the motion of a camera of which nothing is known


def track_frames(
    tracker: JDETracker, chunk: DetectionChunk, config: TrackConfig
) -> Iterator[tuple[SavedFrame, Tracks]]:
    """Track the frames of the chunk that is next in order.

    Args:
        tracker: Tracker of the video.
        chunk: Detections without an error.
        config: Whether the camera's motion is estimated.

    Yields:
        What the tracker saw of a frame, and all tracks of that frame.

    Raises:
        VideoError: At a frame with a number that is not finite, or over which the tracker fails.
    """
    frames = tracker.prepare(chunk.detections)
    motions, is_still = _motions(chunk, config)
    rows = zip(chunk.frame_index, chunk.time_s, chunk.detections, motions, strict=True)
    for place, (index, time_s, found, motion) in enumerate(rows):
        seen = SavedFrame(int(index), float(time_s), found, motion)
        moved = None if is_still[place] else motion
        try:
            if frames is None:
                _check(seen)
                tracks = tracker.follow(found, time_s=seen.time_s, camera_motion=moved)
            else:
                frame, is_of_nobody = frames[place], not len(found)
                tracks = tracker.advance(frame, seen.time_s, moved, is_of_nobody=is_of_nobody)
        except VideoError:
            raise
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            raise VideoError(Reason.INTERNAL, detail, seen.frame) from error
        yield seen, tracks


def _motions(
    chunk: DetectionChunk, config: TrackConfig
) -> tuple[Sequence[NDArray[np.float64] | None], NDArray[np.bool_]]:
    """The motion before each frame, and whether the camera stood still."""
    count = len(chunk.frame_index)
    if not config.estimates_motion:
        return [None] * count, np.ones(count, np.bool_)
    if chunk.camera_motion is None:
        return [_STANDING] * count, np.ones(count, np.bool_)
    return list(chunk.camera_motion), (chunk.camera_motion == _STANDING).all(axis=(1, 2))


def _check(seen: SavedFrame) -> None:
    found: Detections = seen.found
    finite = (np.isfinite(values).all() for values in (found.tlbr, found.scores, found.embeddings))
    if not all(finite):
        raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", seen.frame)


def filter_tracks(tracks: Sequence[Tracks], config: TrackConfig, counts: Counts) -> list[Tracks]:
    """Drop the tracks of successive frames that are not reported, and count them by cause."""
    if not tracks:
        return []
    boxes = np.concatenate([one.tlbr for one in tracks])
    keep = np.ones(len(boxes), np.bool_)
    for cause, mask in left_out(boxes, config).items():
        counts.drop(cause, int(np.count_nonzero(mask)))
        keep &= ~mask
    if keep.all():
        return list(tracks)
    ends = np.cumsum([len(one) for one in tracks])
    return [one[keep[end - len(one) : end]] for one, end in zip(tracks, ends, strict=True)]

"""How the camera moved between two frames: a similarity, estimated from small grey pictures.

Corners of the earlier picture are followed into the later one (Shi and Tomasi 1994; pyramidal
Lucas-Kanade, Bouguet 2001), and a similarity is fitted to them by RANSAC, since people move too.
The result depends on the two pictures only (OpenCV's RANSAC starts from the same seed in every
call), so that parts of a video that are decoded apart, and resumed runs, get the same numbers.

Measured reasons: docs/decisions/0014-camera-motion.md.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox

Grey = NDArray[np.uint8]
Motion = NDArray[np.float64]  # (2, 3), maps pixels of the frame before to pixels of this frame

STANDING = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
STANDING.flags.writeable = False

_SIDE = 320  # about the longer side of the small picture, in pixels
_MOST_CORNERS = 150
_CORNER_QUALITY = 0.01  # of the best corner
_CORNER_DISTANCE = 8  # pixels of the small picture, as are all distances here
_WINDOW, _LEVELS = (11, 11), 3
_STILL = 0.25  # a corner that moves less stands still
_MOST_STILL = 0.3  # share of corners that stand still; above it so does the camera
_LEAST_SHIFT = 0.5  # of the picture's corners; below it the camera stands
_INLIER = 1.0
_FEWEST, _LEAST_SHARE = 20, 0.4  # corners that are found, and that agree
_MOST_SCALE, _MOST_TURN = 1.25, 0.2  # from frame to frame; the turn in radians
_MOST_TRAVEL = 0.35  # of the picture's side


def small_grey(frame: NDArray[np.uint8], letterbox: Letterbox) -> Grey:
    """The picture in which motion is estimated.

    Args:
        frame: `(H, W, 3)` uint8 RGB, letterboxed for the network.
        letterbox: Position of the picture in it.

    Returns:
        `(h, w)` uint8 without the borders, its longer side about 320 pixels: the mean of k x k
        pixels of the network's input.
    """
    (picture,) = letterbox.pictures(frame[None])
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    factor = _factor(letterbox)
    if factor == 1:
        return np.asarray(grey, np.uint8)
    height, width = (side // factor for side in grey.shape)
    grey = np.ascontiguousarray(grey[: height * factor, : width * factor])
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _factor(letterbox: Letterbox) -> int:
    return max(1, round(max(letterbox.scaled_size) / _SIDE))


class CameraMotion:
    """Estimates the motion of one video's camera from frame to frame.

    Args:
        before: Small picture of the frame before the first one, to continue a video; None for its
            beginning.

    Attributes:
        before: Small picture of the last frame, all that the next estimate depends on.
    """

    def __init__(self, before: Grey | None = None) -> None:
        self.before = before

    def estimate(self, frame: NDArray[np.uint8], letterbox: Letterbox) -> Motion:
        """The camera's motion since the last frame, see `motion_since`.

        Args:
            frame: `(H, W, 3)` uint8 RGB, letterboxed for the network.
            letterbox: Position of the picture in it, the same for all frames of a video.
        """
        before, self.before = self.before, small_grey(frame, letterbox)
        return motion_since(before, self.before, letterbox)


def motion_since(before: Grey | None, after: Grey, letterbox: Letterbox) -> Motion:
    """The camera's motion in source pixels.

    Args:
        before: Small picture of the frame before; None at the beginning.
        after: Small picture of this frame.
        letterbox: Position of the picture in the network's input.

    Returns:
        As `motion_between`; `STANDING` at the beginning, and for pictures of different sizes.
    """
    if before is None or before.shape != after.shape:
        return STANDING
    return to_source(motion_between(before, after), letterbox)


def to_source(motion: Motion, letterbox: Letterbox) -> Motion:
    """A motion `(2, 3)` of pixels of the small picture as one of source pixels.

    Coordinates are those of boxes: the centre of the first pixel is at (.5, .5).
    """
    if motion is STANDING:
        return STANDING
    width, height = letterbox.scaled_size
    factor = _factor(letterbox)
    scale = factor * np.array([letterbox.source_width / width, letterbox.source_height / height])
    linear = motion[:, :2]
    shift = motion[:, 2] + 0.5 - linear @ [0.5, 0.5]
    return np.column_stack([linear * scale[:, None] / scale, shift * scale])


def motion_between(before: Grey, after: Grey) -> Motion:
    """The similarity that maps pixels of one picture to those of the next one.

    Args:
        before: `(h, w)` uint8.
        after: `(h, w)` uint8, a later frame of the same video.

    Returns:
        `(2, 3)` float64. `STANDING` itself, exactly the identity, if the camera stands (many
        corners do not move, or none would move by half a pixel), or if the estimate is
        unsure: few corners, few that agree, or a change of scale, turn or place that no camera
        makes between two frames, such as a cut in a film.
    """
    pairs = _followed(before, after)
    if pairs is None:
        return STANDING
    start, end = pairs
    travelled = np.abs(end - start).max(axis=1)
    if np.count_nonzero(travelled < _STILL) > _MOST_STILL * len(start):
        return STANDING
    fitted, inliers = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=_INLIER
    )
    if fitted is None or np.count_nonzero(inliers) < max(_FEWEST, _LEAST_SHARE * len(start)):
        return STANDING
    motion = np.asarray(fitted, np.float64)
    return motion if _is_plausible(motion, *before.shape) else STANDING


def _followed(before: Grey, after: Grey) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Corners of a picture and where they are in the next one, `(n, 2)` each; None if few."""
    corners = cv2.goodFeaturesToTrack(before, _MOST_CORNERS, _CORNER_QUALITY, _CORNER_DISTANCE)
    if corners is None or len(corners) < _FEWEST:
        return None
    moved, is_found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, np.empty_like(corners), winSize=_WINDOW, maxLevel=_LEVELS
    )
    found = np.ravel(is_found) == 1
    start, end = (np.float32(points).reshape(-1, 2)[found] for points in (corners, moved))
    return (start, end) if len(start) >= _FEWEST else None


def _is_plausible(motion: Motion, height: int, width: int) -> bool:
    """Whether a camera moves like that between two frames, and not too little to be told."""
    scale, turn = np.hypot(motion[0, 0], motion[1, 0]), np.arctan2(motion[1, 0], motion[0, 0])
    frame = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    shift = np.abs(motion @ frame - frame[:2]).max()
    return bool(
        1 / _MOST_SCALE < scale < _MOST_SCALE
        and abs(turn) < _MOST_TURN
        and _LEAST_SHIFT <= shift <= _MOST_TRAVEL * max(height, width)
    )

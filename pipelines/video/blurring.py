"""Make people in frames unrecognisable: a coarse mosaic in place of each person or head.

A cell of the mosaic is the mean of its pixels; what was finer than a cell is gone from the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.postprocessing.coverage import Coverage, cover
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories, with_boxes
from jde_ray.pipelines.video.frame import Image

Part = Literal["people", "heads"]

# margins as shares of the box's own sides, since boxes are a little too small now and then
_MARGIN, _HEAD_SIDE = 0.1, 0.15  # of a person at the sides and below, of a head at the sides
# above, where hair and hats are, of the height, or of the width if the feet are not in the frame
_TOP_OF_HEIGHT, _TOP_OF_WIDTH = 0.12, 0.25
# A head is in the upper 30 % of a box; a box that is wide for its height shows somebody who sits,
# lies or is cut off, of whom the head is a larger part.
_HEAD_SHARE, _HEAD_OF_WIDTH = 0.3, 0.75
CELLS: dict[Part, int] = {"people": 6, "heads": 4}  # along the shorter side of a region
LEAST_CELL = 8  # pixels


def regions_of(tlbr: FloatArray, part: Part) -> FloatArray:
    """The regions `(n, 4)` to hide of boxes `(n, 4)`, as corners in pixels, margins included.

    Args:
        tlbr: Boxes of people.
        part: `people` for all of each, `heads` for the upper 30 % of the height, or three quarters
            of the width if that is more.
    """
    width, height = tlbr[:, 2] - tlbr[:, 0], tlbr[:, 3] - tlbr[:, 1]
    top = tlbr[:, 1] - np.maximum(_TOP_OF_HEIGHT * height, _TOP_OF_WIDTH * width)
    head = np.minimum(np.maximum(_HEAD_SHARE * height, _HEAD_OF_WIDTH * width), height)
    is_whole = part == "people"
    side = (_MARGIN if is_whole else _HEAD_SIDE) * width
    bottom = tlbr[:, 3] + _MARGIN * height if is_whole else tlbr[:, 1] + head
    return np.stack([tlbr[:, 0] - side, top, tlbr[:, 2] + side, bottom], axis=1)


def coverage_of(tracks: Trajectories, part: Part, *, stride: int = 1) -> Coverage:
    """What to hide in each frame, also where a person is not found for a while (`cover`).

    Args:
        tracks: Tracks of one video.
        part: What of each person to hide.
        stride: Every n-th frame was tracked.
    """
    # regions are carried and not boxes: the head of a person who moves is not that of a grown box
    return cover(with_boxes(tracks, regions_of(tracks.tlbr, part)), stride=stride)


def blur(image: Image, regions: FloatArray, part: Part) -> Image:
    """A copy of a frame in which people cannot be recognised; pixels elsewhere are the same.

    Args:
        image: `(H, W, 3)` uint8.
        regions: `(n, 4)` corners in pixels, which may lie outside the frame.
        part: What of a person each region holds.
    """
    canvas = np.array(image, np.uint8, order="C")
    limits = np.array(image.shape[1::-1] * 2)
    for region in regions:
        corners = np.concatenate([np.floor(region[:2]), np.ceil(region[2:])])
        x1, y1, x2, y2 = np.clip(corners, 0, limits).astype(int).tolist()
        if x2 > x1 and y2 > y1:
            # the size in the scene decides, not what of it is in the frame
            side = float((region[2:] - region[:2]).min())
            cell = max(LEAST_CELL, int(np.ceil(side / CELLS[part])))
            _mosaic(canvas[y1:y2, x1:x2], cell)
    return canvas


def blur_frames(
    frames: Iterable[tuple[int, float, Image]], coverage: Coverage, part: Part
) -> Iterator[tuple[int, float, Image]]:
    """Frames with their number and time, in which people cannot be recognised.

    Args:
        frames: Frame number, time in seconds and `(H, W, 3)` uint8.
        coverage: Regions to hide, from `coverage_of`.
        part: What of each person to hide.
    """
    for frame_index, time_s, image in frames:
        yield frame_index, time_s, blur(image, coverage.in_frame(frame_index), part)


def _mosaic(view: Image, cell: int) -> None:
    """Replace a part of an image by means over cells of at least `cell` pixels, if it has them."""
    rows, columns = (_lengths(side, cell) for side in view.shape[:2])
    sums = np.add.reduceat(view, np.cumsum(rows) - rows, axis=0, dtype=np.int64)
    sums = np.add.reduceat(sums, np.cumsum(columns) - columns, axis=1)
    count = np.outer(rows, columns)[:, :, None]
    means = ((sums + count // 2) // count).astype(np.uint8)
    view[:] = means.repeat(rows, axis=0).repeat(columns, axis=1)


def _lengths(side: int, cell: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Lengths of the cells along a side, which differ by one pixel at most."""
    return np.diff(np.arange(max(1, side // cell) + 1) * side // max(1, side // cell))

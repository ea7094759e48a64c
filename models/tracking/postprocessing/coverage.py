"""Where the people of finished tracks may be, also in frames in which they were not found.

A drawn video that hides people must hide them in every frame. A track has gaps, begins some frames
after its person appeared, and ends before the person has left; its boxes are carried over these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories, interpolate

CARRIED_FRAMES = 20  # as many as `jde refine` fills
_PACE_FRAMES = 10  # a person's pace is the mean over so many frames
_FARTHEST = 3.0  # of its longer side, that a carried box grows by at most; jitter is no pace


@dataclass(frozen=True)
class Coverage:
    """Boxes to hide, in ascending order of frames; several of a frame may belong to one person.

    Attributes:
        frame: `(n,)` 0-based source frames.
        tlbr: `(n, 4)` corners in pixels, which may lie outside the frame.

    Raises:
        ValueError: If shapes disagree, or frames are out of order.
    """

    frame: IntArray
    tlbr: FloatArray

    def __post_init__(self) -> None:
        if self.tlbr.shape != (len(self.frame), 4):
            raise ValueError(f"boxes: got {self.tlbr.shape}, expected ({len(self.frame)}, 4)")
        if (np.diff(self.frame) < 0).any():
            raise ValueError("boxes: expected ascending frames")

    def in_frame(self, frame: int) -> FloatArray:
        """`(k, 4)` boxes of one frame."""
        own = slice(*np.searchsorted(self.frame, [frame, frame + 1]))
        return self.tlbr[own]


def cover(tracks: Trajectories, max_frames: int = CARRIED_FRAMES, *, stride: int = 1) -> Coverage:
    """Boxes of all tracks, also in the frames around their sightings.

    A gap of up to `max_frames` frames is filled as `jde refine` fills it, by linear interpolation.
    At longer gaps, and at both ends of a track, the box is carried on for `max_frames` frames: it
    grows to hold the box where it was last seen and that box moved on at the person's pace, since
    nobody knows whether the person stopped or went on.

    Args:
        tracks: Tracks of one video.
        max_frames: Processed frames that a box is carried.
        stride: Every n-th frame was processed.
    """
    filled = interpolate(tracks, max_frames, stride=stride)
    n = len(filled)
    is_first = np.ones(n, bool)
    is_first[1:] = (np.diff(filled.track_id) != 0) | (np.diff(filled.frame) > stride)
    is_last = np.append(is_first[1:], True)[:n]
    run = np.cumsum(is_first) - 1
    first, last = np.flatnonzero(is_first), np.flatnonzero(is_last)
    after = _carried(filled, last, np.maximum(last - _PACE_FRAMES, first[run[last]]), max_frames)
    before = _carried(filled, first, np.minimum(first + _PACE_FRAMES, last[run[first]]), max_frames)
    steps = np.tile(np.arange(1, max_frames + 1) * stride, len(first))
    frame = np.concatenate(
        [
            filled.frame,
            np.repeat(filled.frame[last], max_frames) + steps,
            np.repeat(filled.frame[first], max_frames) - steps,
        ]
    )
    tlbr = np.concatenate([filled.tlbr, after, before])
    order = np.argsort(frame, kind="stable")
    order = order[frame[order] >= 0]
    return Coverage(frame[order], tlbr[order])


def _carried(tracks: Trajectories, rows: IntArray, others: IntArray, count: int) -> FloatArray:
    """`(len(rows) * count, 4)` boxes of `rows`, carried on 1 to `count` frames, row by row.

    Args:
        tracks: Tracks of one video, without gaps between `rows` and `others`.
        rows: Rows to carry on.
        others: For each a row of the same person from which the pace follows; itself if there is
            none.
        count: Frames to carry.
    """
    start, distance = tracks.tlbr[rows], np.abs(rows - others)
    pace = (start - tracks.tlbr[others]) / np.maximum(distance, 1)[:, None]
    moved = pace[:, None] * np.arange(1, count + 1)[None, :, None]
    most = _FARTHEST * (start[:, 2:] - start[:, :2]).max(axis=1)[:, None, None]
    moved = np.clip(moved, -most, most)
    grows: NDArray[np.bool_] = (moved < 0) == np.array([True, True, False, False])
    carried: FloatArray = start[:, None] + np.where(grows, moved, 0.0)
    return carried.reshape(-1, 4)

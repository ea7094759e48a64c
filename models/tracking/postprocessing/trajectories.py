"""All finished tracks of a video, and the refinements that need all frames.

These functions run after tracking: they take all tracks of a video and return new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray


@dataclass(frozen=True)
class Trajectories:
    """Rows of all tracks of a video, by track and then by frame.

    Attributes:
        frame: `(n,)` int64 0-based frames, rising within a track.
        track_id: `(n,)` int64, rising.
        tlbr: `(n, 4)` float64 corners in pixels.
        score: `(n,)` float64.
        source: `(n,)` row of the file from which each row comes, for what is not kept here, such as
            its embedding. A filled row has that of the row before its gap.

    Raises:
        ValueError: If lengths or shapes disagree, or rows are out of order.
    """

    frame: IntArray
    track_id: IntArray
    tlbr: FloatArray
    score: FloatArray
    source: IntArray

    def __post_init__(self) -> None:
        n = len(self.frame)
        if self.track_id.shape != (n,) or self.tlbr.shape != (n, 4) or self.score.shape != (n,):
            got = (self.frame.shape, self.track_id.shape, self.tlbr.shape, self.score.shape)
            raise ValueError(f"rows: got shapes {got}, expected (n,), (n,), (n, 4), (n,)")
        if self.source.shape != (n,):
            raise ValueError(f"rows: got {len(self.source)} sources, expected {n}")
        same = np.diff(self.track_id) == 0
        if (np.diff(self.track_id) < 0).any() or (np.diff(self.frame)[same] <= 0).any():
            raise ValueError("rows: expected rows by track, then by rising frame")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: NDArray[np.bool_] | IntArray) -> Trajectories:
        return Trajectories(
            self.frame[index],
            self.track_id[index],
            self.tlbr[index],
            self.score[index],
            self.source[index],
        )

    @staticmethod
    def sort(
        frame: IntArray,
        track_id: IntArray,
        tlbr: FloatArray,
        score: FloatArray,
        source: IntArray | None = None,
    ) -> Trajectories:
        """Trajectories from rows in any order.

        Args:
            frame: `(n,)` frames.
            track_id: `(n,)` ids.
            tlbr: `(n, 4)` boxes.
            score: `(n,)` scores.
            source: `(n,)` rows of the file; None if these are all rows of it, in its order.
        """
        order = np.lexsort((frame, track_id))
        own = order if source is None else source[order]
        return Trajectories(frame[order], track_id[order], tlbr[order], score[order], own)

    def with_ids(self, track_id: IntArray) -> Trajectories:
        """The same rows with other `(n,)` ids, sorted by them."""
        return Trajectories.sort(self.frame, track_id, self.tlbr, self.score, self.source)

    def spans(self) -> tuple[IntArray, IntArray]:
        """`(k,)` first row of each of the k tracks, and `(k,)` row after its last one."""
        edges = np.flatnonzero(np.diff(self.track_id)) + 1
        if not len(self):
            return edges, edges
        return np.append(0, edges), np.append(edges, len(self))


def drop_short(tracks: Trajectories, min_length: int) -> Trajectories:
    """Leave out tracks that were seen in fewer than `min_length` frames."""
    starts, ends = tracks.spans()
    length = ends - starts
    return tracks[np.repeat(length >= min_length, length)]


def interpolate(tracks: Trajectories, max_gap: int, *, stride: int = 1) -> Trajectories:
    """Fill gaps within tracks by linear interpolation of the boxes.

    A new row has the lower of the two scores, and the source of the row before the gap.

    Args:
        tracks: Tracks of one video.
        max_gap: Maximum number of missing frames; longer gaps stay.
        stride: Every n-th frame was tracked; only those are filled.
    """
    step = np.diff(tracks.frame) // stride
    same = np.diff(tracks.track_id) == 0
    before = np.flatnonzero(same & (step > 1) & (step - 1 <= max_gap))
    if not len(before):
        return tracks
    missing = step[before] - 1
    row = np.repeat(before, missing)
    number = np.arange(len(row)) - np.repeat(np.cumsum(missing) - missing, missing) + 1
    share = (number * stride / (tracks.frame[row + 1] - tracks.frame[row]))[:, None]
    filled = Trajectories(
        tracks.frame[row] + number * stride,
        tracks.track_id[row],
        (1 - share) * tracks.tlbr[row] + share * tracks.tlbr[row + 1],
        np.minimum(tracks.score[row], tracks.score[row + 1]),
        tracks.source[row],
    )
    return _merge(tracks, filled)


def _merge(a: Trajectories, b: Trajectories) -> Trajectories:
    return Trajectories.sort(
        np.concatenate([a.frame, b.frame]),
        np.concatenate([a.track_id, b.track_id]),
        np.concatenate([a.tlbr, b.tlbr]),
        np.concatenate([a.score, b.score]),
        np.concatenate([a.source, b.source]),
    )


def with_boxes(tracks: Trajectories, tlbr: FloatArray) -> Trajectories:
    """The same rows with other `(n, 4)` boxes."""
    return replace(tracks, tlbr=tlbr)

"""Boxes with ids over the frames of a sequence, as the metrics compare them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray


@dataclass(frozen=True)
class BoxRows:
    """One row per box, in any order.

    Attributes:
        frame: `(n,)` int64 frame numbers from 0.
        track_id: `(n,)` int64 identities; the metrics expect each at most once per frame.
        tlbr: `(n, 4)` float64 corners in pixels.

    Raises:
        ValueError: If the lengths or shapes disagree.
    """

    frame: IntArray
    track_id: IntArray
    tlbr: FloatArray

    def __post_init__(self) -> None:
        n = len(self.frame)
        if self.frame.shape != (n,) or self.track_id.shape != (n,) or self.tlbr.shape != (n, 4):
            got = (self.frame.shape, self.track_id.shape, self.tlbr.shape)
            raise ValueError(f"rows: got shapes {got}, expected (n,), (n,), (n, 4)")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: slice | NDArray[Any]) -> BoxRows:
        return BoxRows(self.frame[index], self.track_id[index], self.tlbr[index])

    @staticmethod
    def empty() -> BoxRows:
        """A table without rows."""
        return BoxRows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))

    @staticmethod
    def concatenate(parts: list[BoxRows]) -> BoxRows:
        """Rows of all parts in order."""
        return BoxRows(
            np.concatenate([part.frame for part in parts]),
            np.concatenate([part.track_id for part in parts]),
            np.concatenate([part.tlbr for part in parts]),
        )


def by_frame(*tables: BoxRows) -> Iterator[tuple[int, list[IntArray]]]:
    """Row numbers of each table, frame by frame; frames without rows in any table are skipped.

    Args:
        tables: Tables of one sequence.

    Yields:
        Frame number, rising, and the `(k,)` indices of each table's rows in that frame.
    """
    orders = [np.argsort(table.frame, kind="stable") for table in tables]
    sorted_frames = [table.frame[order] for table, order in zip(tables, orders, strict=True)]
    frames = np.unique(np.concatenate(sorted_frames)) if tables else np.zeros(0, np.int64)
    edges = [
        (np.searchsorted(own, frames, "left"), np.searchsorted(own, frames, "right"))
        for own in sorted_frames
    ]
    for k, frame in enumerate(frames):
        yield (
            int(frame),
            [order[low[k] : high[k]] for order, (low, high) in zip(orders, edges, strict=True)],
        )


def check_unique(name: str, rows: BoxRows) -> None:
    """Refuse an identity that has two boxes in one frame.

    Raises:
        ValueError: If there is one, naming the first frame and id.
    """
    order = np.lexsort((rows.track_id, rows.frame))
    frame, track_id = rows.frame[order], rows.track_id[order]
    twice = np.flatnonzero((frame[1:] == frame[:-1]) & (track_id[1:] == track_id[:-1]))
    if len(twice):
        first = int(twice[0])
        raise ValueError(
            f"{name}: got id {track_id[first]} twice in frame {frame[first]} (from 0), "
            "expected one box an id and frame"
        )

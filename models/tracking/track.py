"""Live tracks as a structure of arrays: one table of numbers, one matrix of embeddings."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import TrackerState, Tracks
from jde_ray.models.tracking import area_kalman, kalman, mean_velocity
from jde_ray.models.tracking.calibration import Calibration
from jde_ray.models.tracking.frame import Frame
from jde_ray.models.tracking.kalman import STATE_ROWS, State
from jde_ray.models.tracking.sway import Sway

STORE_ARRAYS = ("table", "embeddings", "gallery", "counters", "motion", "calibration", "sway")
_START_CAPACITY = 64
_FIELDS = (
    "status",
    "track_id",
    "score",
    "order",
    "first_frame",
    "last_frame",
    "hits",
    "detection",
    "retired",
)

_ROWS = STATE_ROWS + len(_FIELDS)  # of the table, without the association's own
_STATUS, _, _SCORE, _, _, _LAST_FRAME, _HITS, _DETECTION, _ = range(STATE_ROWS, _ROWS)
_TRACK_ID = _STATUS + 1


class TrackStatus(IntEnum):
    """State in the life of a track; a removed track has no column."""

    TENTATIVE = 0  # matched too few times to be reported
    TRACKED = 1  # matched in the last frame
    LOST = 2  # not matched, may be found again
    REMOVED = 3  # forgotten


# plain ints for comparison with arrays: looking up an enum member takes as long as the comparison
TENTATIVE, TRACKED, LOST, _ = (int(status) for status in TrackStatus)


class MotionModel(Protocol):
    """Functions that a table uses, such as those of the modules `kalman` and `area_kalman`."""

    def measure(self, xyah: State, /) -> State:
        """`(4, N)` measurements of boxes."""
        ...

    def initiate(self, measured: State, /) -> State:
        """`(20, N)` states that start at measurements."""
        ...

    def correct(self, state: State, measured: State, variance: State, /) -> None:
        """Update `(20, M)` states with `(4, M)` measurements, in place."""
        ...

    def move(self, state: State, motion: NDArray[np.float64], /) -> None:
        """Move states with the picture, in place."""
        ...

    def to_tlbr(self, state: State, /) -> State:
        """`(4, M)` corners of states, of which the first four rows are enough."""
        ...


_MOTIONS: dict[str, MotionModel] = {
    "height": kalman,
    "area": area_kalman,
    "mean velocity": mean_velocity,
}


class TrackStore:
    """Tracks of one video in columns `0 .. count - 1`, in no particular order.

    The fields are rows of one float64 table, which is exact for the ids and frame numbers of any
    video; moving a track is therefore one copy. Growing the table replaces the views, so always
    read them from the store.

    Args:
        embedding_dim: Width D of the embeddings.
        motion: `kalman`, `area_kalman` or `mean_velocity`.
        gallery: Number of embeddings kept per track in addition to the smoothed one.
        extra: Number of further numbers per track that an association keeps for itself.

    Attributes:
        count: Number of live tracks.
        calibration: What this video has shown of its embeddings.
        sway: How much its camera moves, by its boxes.
        state: `(20, capacity)` filter states.
        embeddings: `(capacity, D)` float32 smoothed embeddings, L2-normalised.
        gallery: `(capacity, G, D)` float32 last G embeddings, a ring buffer whose first `hits`
            slots are filled.
        status: `(capacity,)` values of `TrackStatus`.
        track_id: `(capacity,)` ids, 0 until the track is reported.
        score: `(capacity,)` scores of the detections last matched.
        order: `(capacity,)` unique ranks by which tracks are listed.
        first_frame: `(capacity,)` times of birth in frames.
        last_frame: `(capacity,)` times of the last match in frames.
        hits: `(capacity,)` numbers of detections matched.
        detection: `(capacity,)` detections matched in `last_frame`.
        retired: `(capacity,)` 1 for a track that once exceeded the buffer (`published` only).
        extra: `(extra, capacity)` numbers of the association's own, 0 for a new track.
    """

    status: NDArray[np.float64]
    track_id: NDArray[np.float64]
    score: NDArray[np.float64]
    order: NDArray[np.float64]
    first_frame: NDArray[np.float64]
    last_frame: NDArray[np.float64]
    hits: NDArray[np.float64]
    detection: NDArray[np.float64]
    retired: NDArray[np.float64]

    def __init__(
        self, embedding_dim: int, *, motion: MotionModel = kalman, gallery: int = 0, extra: int = 0
    ) -> None:
        self.count, self.motion = 0, motion
        self._ranks, self._next_id = 0, 1
        self.calibration, self.sway = Calibration(embedding_dim), Sway()
        self._rows = _ROWS + extra
        self._allocate(_START_CAPACITY, embedding_dim, gallery)

    def _allocate(self, capacity: int, embedding_dim: int, gallery: int) -> None:
        self._table = np.zeros((self._rows, capacity))
        self.embeddings = np.zeros((capacity, embedding_dim), np.float32)
        self.gallery = np.zeros((capacity, gallery, embedding_dim), np.float32)
        self.state = self._table[:STATE_ROWS]
        for row, name in enumerate(_FIELDS, STATE_ROWS):
            setattr(self, name, self._table[row])
        self.extra = self._table[_ROWS:]

    def get_state(self) -> TrackerState:
        """Everything on which the next frame depends, as named arrays that share no memory."""
        return {
            "table": self._table[:, : self.count].copy(),
            "embeddings": self.embeddings[: self.count].copy(),
            "gallery": self.gallery[: self.count].copy(),
            "counters": np.array([self._ranks, self._next_id, self.capacity], np.int64),
            "motion": np.array(next(name for name, m in _MOTIONS.items() if m is self.motion)),
            "calibration": self.calibration.get_state(),
            "sway": self.sway.value.copy(),
        }

    def set_state(self, state: TrackerState) -> None:
        """Restore a state of `get_state`; the arrays are copied.

        Raises:
            ValueError: If the arrays are not such a state.
        """
        arrays = (state[name] for name in STORE_ARRAYS)
        table, embeddings, gallery, counters, motion, learned, sway = arrays
        fits = table.ndim == embeddings.ndim == 2 and gallery.ndim == 3 and sway.shape == (2,)
        fits = fits and counters.shape == (3,) and len(gallery) == len(embeddings)
        if not (fits and len(table) >= _ROWS and table.shape[1] == len(embeddings)):
            raise ValueError(
                f"tracker state: got {table.shape = }, {embeddings.shape = }, {gallery.shape = }, "
                f"{counters.shape = }, {sway.shape = }, "
                f"expected ({_ROWS} or more, M), (M, D), (M, G, D), (3,), (2,)"
            )
        if str(motion) not in _MOTIONS:
            raise ValueError(f"tracker state: got motion {motion}, expected {list(_MOTIONS)}")
        calibration = Calibration(embeddings.shape[1])
        calibration.set_state(learned)
        self.motion, self.calibration = _MOTIONS[str(motion)], calibration
        self.sway = Sway(sway)
        self._rows = len(table)
        self._ranks, self._next_id, capacity = (int(number) for number in counters)
        self.count = table.shape[1]
        # keep the saved number of columns, so that sums over columns round the same way
        capacity = max(_START_CAPACITY, self.count, capacity)
        self._allocate(capacity, embeddings.shape[1], gallery.shape[1])
        self._table[:, : self.count] = table
        self.embeddings[: self.count] = embeddings
        self.gallery[: self.count] = gallery

    # a plain pickle would copy the views, so that they no longer refer to the table
    __getstate__ = get_state
    __setstate__ = set_state

    @property
    def width(self) -> int:
        """D of the embeddings."""
        return self.embeddings.shape[1]

    @property
    def is_unused(self) -> bool:
        """Whether no track was ever started, so that nothing depends on the width."""
        return self._ranks == 0

    @property
    def capacity(self) -> int:
        """Number of allocated columns; it grows with the largest number of live tracks."""
        return self._table.shape[1]

    def boxes(self, columns: NDArray[np.intp]) -> State:
        """`(4, K)` corners of these tracks in their current state."""
        return self.motion.to_tlbr(self.state[:4].take(columns, axis=1))

    def move(self, motion: NDArray[np.float64]) -> None:
        """Move all tracks with the picture; `motion` is that of the camera, `(2, 3)`."""
        self.motion.move(self.state[:, : self.count], motion)

    def take_ranks(self, number: int) -> NDArray[np.float64]:
        """The next `(number,)` values of `order`, after all earlier ones."""
        start = self._ranks
        self._ranks += number
        return np.arange(start, self._ranks, dtype=np.float64)

    def append(
        self,
        frame: Frame,
        detections: NDArray[np.intp],
        ranks: NDArray[np.float64],
        status: int,
        now: float,
    ) -> None:
        """Add a track for each of K detections, in the columns after the others.

        Args:
            frame: Frame of the detections.
            detections: `(K,)` indices of the detections.
            ranks: `(K,)` values from `take_ranks`.
            status: Status of all new tracks.
            now: Time in frames.
        """
        if not len(detections):
            return
        start, stop = self.count, self.count + len(detections)
        if stop > self.capacity:
            table, kept, gallery = self._table, self.embeddings, self.gallery
            self._allocate(2 * stop, kept.shape[1], gallery.shape[1])
            self._table[:, :start] = table[:, :start]
            self.embeddings[:start] = kept[:start]
            self.gallery[:start] = gallery[:start]
        added = slice(start, stop)
        self._table[STATE_ROWS:, added] = 0.0
        measured = self.motion.measure(frame.xyah[:, detections])
        self.state[:, added] = self.motion.initiate(measured)
        self.embeddings[added] = frame.embeddings[detections]
        if self.gallery.size:
            self.gallery[added] = 0.0  # clear the gallery of the column's previous track
            self.gallery[added, 0] = frame.embeddings[detections]
        self.status[added] = status
        self.score[added] = frame.scores[detections]
        self.order[added] = ranks
        self.first_frame[added] = now
        self.last_frame[added] = now
        self.hits[added] = 1.0
        self.detection[added] = detections
        self.count = stop

    def absorb(
        self,
        frame: Frame,
        columns: NDArray[np.intp],
        detections: NDArray[np.intp],
        variance: NDArray[np.float64],
        momentum: float,
        now: float,
        *,
        mean_first: bool = False,
    ) -> None:
        """Correct K tracks by their matched detections; they become `TRACKED`.

        Args:
            frame: Frame of the detections.
            columns: `(K,)` unique columns of the tracks.
            detections: `(K,)` indices of their detections.
            variance: `(4, K)` `innovation_variance` of these tracks, from the table's filter.
            momentum: Share of the old embedding that is kept.
            now: Time in frames.
            mean_first: Keep less at first, so that the first sightings of a track count alike.
        """
        moved = self._table.take(columns, axis=1)
        if self.gallery.size:
            slot = moved[_HITS].astype(np.intp) % self.gallery.shape[1]
            self.gallery[columns, slot] = frame.embeddings[detections]
        measured = self.motion.measure(frame.xyah.take(detections, axis=1))
        self.motion.correct(moved[:STATE_ROWS], measured, variance)
        moved[_STATUS] = TRACKED
        moved[_SCORE] = frame.scores.take(detections)
        moved[_LAST_FRAME] = now
        sightings = moved[_HITS].astype(np.float32)
        moved[_HITS] += 1.0
        moved[_DETECTION] = detections
        self._table[:, columns] = moved
        if self.embeddings.shape[1]:
            smooth = self.embeddings.take(columns, axis=0)
            fresh = frame.embeddings.take(detections, axis=0)
            if mean_first:  # beside a new embedding of weight 1, n earlier ones weigh n
                most = momentum / (1 - momentum) if momentum < 1 else math.inf
                smooth *= np.minimum(sightings, np.float32(most))[:, None]
            else:
                smooth *= np.float32(momentum)
                fresh *= np.float32(1 - momentum)
            smooth += fresh
            norms = np.sqrt(np.vecdot(smooth, smooth))
            np.maximum(norms, np.float32(1e-12), out=norms)  # opposite vectors may cancel
            smooth *= np.reciprocal(norms)[:, None]
            self.embeddings[columns] = smooth

    def report(self, source: NDArray[np.intp] | None) -> Tracks:
        """Tracks that are `TRACKED`, by rank; those reported for the first time get an id.

        Args:
            source: Row of the caller's detections for each of the frame's; None if they are equal.
        """
        columns = (self.status[: self.count] == TRACKED).nonzero()[0]
        if not len(columns):
            return Tracks.empty()
        columns = columns.take(self.order.take(columns).argsort())
        listed = self._table.take(columns, axis=1)
        ids = listed[_TRACK_ID]
        if np.count_nonzero(ids) < len(ids):
            new = (ids == 0).nonzero()[0]
            ids[new] = np.arange(self._next_id, self._next_id + len(new))
            self.track_id[columns] = ids
            self._next_id += len(new)
        detection = listed[_DETECTION].astype(np.int64)
        return Tracks(
            ids.astype(np.int64),
            self.motion.to_tlbr(listed[:STATE_ROWS]).T,
            listed[_SCORE].astype(np.float32),
            detection if source is None else source[detection],
        )

    def remove(self, gone: NDArray[np.bool_]) -> None:
        """Remove the tracks of a `(count,)` mask; the last columns move into the gaps."""
        holes = gone.nonzero()[0]
        left = self.count - len(holes)
        if left == self.count:
            return
        holes = holes[: np.searchsorted(holes, left)]
        if len(holes):
            movers = (~gone[left:]).nonzero()[0] + left
            self._table[:, holes] = self._table[:, movers]
            self.embeddings[holes] = self.embeddings[movers]
            self.gallery[holes] = self.gallery[movers]
        self.count = left

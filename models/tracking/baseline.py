"""The published association as a plain loop: one filterpy object per track, dense costs, lap.

Tests compare mode `published` with it, and `jde bench association` measures against it.
"""

from __future__ import annotations

from typing import Any

import lap
import numpy as np
from filterpy.kalman import KalmanFilter
from scipy.spatial.distance import cdist

from jde_ray.models.boxes import iou_matrix, tlbr_to_tlwh, tlbr_to_xyah, tlwh_to_tlbr, xyah_to_tlbr
from jde_ray.models.structures import FloatArray, Tracks
from jde_ray.models.tracking.kalman import GATE
from jde_ray.models.tracking.track import TrackStatus

_MOTION = np.eye(8) + np.eye(8, k=4)
_MEASURE = np.eye(4, 8)


def _deviations(position: float, aspect: float, velocity: float, drift: float) -> FloatArray:
    return np.array([position, position, aspect, position, velocity, velocity, drift, velocity])


def build_filter(xyah: FloatArray) -> Any:
    """Build a filterpy filter for a track that starts at the measurement `(4,)`."""
    height = xyah[3]
    kalman = KalmanFilter(dim_x=8, dim_z=4)
    kalman.x = np.concatenate([xyah, np.zeros(4)])[:, None]
    kalman.F, kalman.H = _MOTION.copy(), _MEASURE
    kalman.P = np.diag(_deviations(height / 10, 1e-2, height / 16, 1e-5) ** 2)
    return kalman


def predict_filter(kalman: Any) -> None:
    """Predict one frame ahead; the noise is proportional to the height before the step."""
    height = kalman.x[3, 0]
    kalman.predict(Q=np.diag(_deviations(height / 20, 1e-2, height / 160, 1e-5) ** 2))


def measurement_noise(height: float) -> FloatArray:
    """`(4, 4)` measurement noise R of a track with this height."""
    return np.diag(np.array([height / 20, height / 20, 1e-1, height / 20]) ** 2)


class LoopTrack:
    """One track of the loop."""

    def __init__(self, xyah: FloatArray, score: float, embedding: FloatArray, frame: int) -> None:
        self.kalman = build_filter(xyah)
        self.score = score
        self.embedding = embedding
        self.status = TrackStatus.TRACKED
        self.confirmed = False
        self.track_id = 0
        self.first_frame = self.last_frame = frame
        self.detection = -1

    @property
    def tlbr(self) -> FloatArray:
        """`(4,)` corners of the state's box."""
        box: FloatArray = xyah_to_tlbr(self.kalman.x[None, :4, 0])[0]
        return box

    def gating(self, xyah: FloatArray) -> FloatArray:
        """Squared Mahalanobis distances `(N,)` of measurements `(N, 4)`."""
        noise = measurement_noise(self.kalman.x[3, 0])
        covariance = _MEASURE @ self.kalman.P @ _MEASURE.T + noise
        offset = xyah - self.kalman.x[:4, 0]
        distance: FloatArray = np.sum(offset * np.linalg.solve(covariance, offset.T).T, axis=1)
        return distance

    def update(
        self, xyah: FloatArray, score: float, embedding: FloatArray, detection: int, frame: int
    ) -> None:
        """Update the track with its matched detection."""
        self.kalman.update(xyah[:, None], R=measurement_noise(self.kalman.x[3, 0]))
        smooth = np.float32(0.9) * self.embedding + np.float32(0.1) * embedding
        self.embedding = smooth / np.linalg.norm(smooth)
        if self.status != TrackStatus.LOST:
            self.score = score  # the original does not update the score of a track found again
        self.status, self.confirmed = TrackStatus.TRACKED, True
        self.last_frame, self.detection = frame, detection


def solve(cost: FloatArray, limit: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Run lap's assignment with a cost limit: pairs, unmatched tracks, unmatched detections."""
    if not cost.size:
        return [], list(range(cost.shape[0])), list(range(cost.shape[1]))
    _, row_to_column, column_to_row = lap.lapjv(cost, extend_cost=True, cost_limit=limit)
    pairs = [(row, column) for row, column in enumerate(row_to_column) if column >= 0]
    rows, columns = np.flatnonzero(row_to_column < 0), np.flatnonzero(column_to_row < 0)
    return pairs, list(rows), list(columns)


def _overlap_cost(tracks: list[LoopTrack], tlbr: FloatArray) -> FloatArray:
    if not tracks or not len(tlbr):
        return np.zeros((len(tracks), len(tlbr)))
    return 1 - iou_matrix(np.stack([track.tlbr for track in tracks]), tlbr, pixel=1.0)


class LoopTracker:
    """`JDETracker` in mode `published`, written plainly.

    Args:
        birth_score: Lowest score at which a detection starts a track.
        max_lost: Number of frames that a lost track is kept.
    """

    def __init__(self, birth_score: float = 0.5, max_lost: int = 30) -> None:
        self.birth_score, self.max_lost = birth_score, max_lost
        self.frame = 0
        self.next_id = 1
        self.tracked: list[LoopTrack] = []
        self.lost: list[LoopTrack] = []
        self.removed: list[LoopTrack] = []

    def update(self, boxes: FloatArray, scores: FloatArray, embeddings: FloatArray) -> Tracks:
        """Associate one frame; arguments are those of `JDETracker.update`."""
        self.frame += 1
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        sizes = tlbr_to_tlwh(boxes).astype(float)  # in the input's precision, like the original
        detections = (tlbr_to_xyah(tlwh_to_tlbr(sizes)), scores, embeddings / norms)
        confirmed = [track for track in self.tracked if track.confirmed]
        tentative = [track for track in self.tracked if not track.confirmed]
        pool = confirmed + self.lost
        for track in pool:
            if track.status != TrackStatus.TRACKED:
                track.kalman.x[7, 0] = 0
            predict_filter(track.kalman)

        pairs, rows, left = solve(self._appearance_cost(pool, *detections), 0.7)
        found = [pool[row] for row, _ in pairs if pool[row].status == TrackStatus.LOST]
        self._apply(pool, pairs, range(len(boxes)), *detections)

        again = [pool[row] for row in rows if pool[row].status == TrackStatus.TRACKED]
        pairs, rows, kept = solve(_overlap_cost(again, boxes[left]), 0.5)
        self._apply(again, pairs, left, *detections)
        left = [left[index] for index in kept]
        newly_lost = [again[row] for row in rows]
        for track in newly_lost:
            track.status = TrackStatus.LOST

        pairs, rows, kept = solve(_overlap_cost(tentative, boxes[left]), 0.7)
        self._apply(tentative, pairs, left, *detections)
        left = [left[index] for index in kept]
        for row in rows:
            tentative[row].status = TrackStatus.REMOVED

        born = [
            LoopTrack(detections[0][i], scores[i], detections[2][i], self.frame)
            for i in left
            if scores[i] >= self.birth_score
        ]
        self._renew_lists(born, found, newly_lost)
        return self._report()

    def _appearance_cost(
        self, pool: list[LoopTrack], xyah: FloatArray, _: FloatArray, embeddings: FloatArray
    ) -> FloatArray:
        if not pool or not len(xyah):
            return np.zeros((len(pool), len(xyah)))
        cost: FloatArray = cdist(np.stack([track.embedding for track in pool]), embeddings)
        gating = np.stack([track.gating(xyah) for track in pool])
        cost[gating > GATE] = np.inf
        return 0.98 * cost + 0.02 * gating

    def _apply(
        self,
        tracks: list[LoopTrack],
        pairs: list[tuple[int, int]],
        left: Any,
        xyah: FloatArray,
        scores: FloatArray,
        embeddings: FloatArray,
    ) -> None:
        for row, column in pairs:
            index = left[column]
            tracks[row].update(xyah[index], scores[index], embeddings[index], index, self.frame)

    def _renew_lists(
        self, born: list[LoopTrack], found: list[LoopTrack], newly_lost: list[LoopTrack]
    ) -> None:
        outlived = [t for t in self.lost if self.frame - t.last_frame > self.max_lost]
        self.tracked = [t for t in self.tracked if t.status == TrackStatus.TRACKED] + born + found
        lost = [t for t in self.lost if t.status != TrackStatus.TRACKED] + newly_lost
        self.lost = [t for t in lost if t not in self.removed]
        self.removed += outlived
        lost_boxes = np.array([track.tlbr for track in self.lost]).reshape(-1, 4)
        overlap = _overlap_cost(self.tracked, lost_boxes)
        drop_tracked, drop_lost = set(), set()
        for row, column in zip(*np.nonzero(overlap < 0.15), strict=True):
            track, other = self.tracked[row], self.lost[column]
            if track.last_frame - track.first_frame > other.last_frame - other.first_frame:
                drop_lost.add(column)
            else:
                drop_tracked.add(row)
        self.tracked = [t for i, t in enumerate(self.tracked) if i not in drop_tracked]
        self.lost = [t for i, t in enumerate(self.lost) if i not in drop_lost]

    def _report(self) -> Tracks:
        present = [track for track in self.tracked if track.confirmed]
        for track in present:
            if not track.track_id:
                track.track_id, self.next_id = self.next_id, self.next_id + 1
        if not present:
            return Tracks.empty()
        return Tracks(
            np.array([track.track_id for track in present]),
            np.stack([track.tlbr for track in present]),
            np.array([track.score for track in present], np.float32),
            np.array([track.detection for track in present]),
        )

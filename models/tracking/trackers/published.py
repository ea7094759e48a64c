"""One frame of the original's association, including its accidents (mode `published`).

Kept from the original: a track is reported from its second frame on and must be matched in that
frame; tentative tracks are not predicted; a lost track that has exceeded the buffer can be found
for one more frame, and is dropped at its next loss; a track found again keeps its old score;
overlaps count inclusive pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices, overlap_matrix
from jde_ray.models.tracking.stages import match_appearance, match_overlap
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore

_MOMENTUM = 0.9
_MOTION_SHARE = 0.02
_APPEARANCE_LIMIT = 0.7
_OVERLAP_LIMIT = 0.5  # largest 1 - IoU for tracked tracks
_TENTATIVE_LIMIT = 0.7
_DUPLICATE_OVERLAP = 0.85
_PIXEL = 1.0


def associate(store: TrackStore, frame: Frame, config: TrackingConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`.

    The tentative tracks, all born in the last frame, are the table's last columns.
    """
    now, max_lost = step.now, step.max_lost
    count = store.count
    status = store.status[:count].copy()
    num_pool = count - int(np.count_nonzero(status == TENTATIVE))
    pool = store.state[:, :num_pool]
    pool[7] *= status[:num_pool] == TRACKED  # a lost track keeps its height
    kalman.predict(pool)
    columns, left = _match(store, frame, status, num_pool, now)

    births = left[frame.scores[left] >= config.first_score]
    birth_ranks = store.take_ranks(len(births))
    matched = np.zeros(count, np.bool_)
    matched[columns] = True
    unmatched = ~matched
    was_lost = status == LOST
    num_lost = np.count_nonzero(was_lost)
    if num_lost:
        found = columns[was_lost[columns]]
        found = found[store.order[found].argsort()]
        store.order[found] = store.take_ranks(len(found))

    gone = unmatched & (status == TENTATIVE)
    newly_lost = (unmatched & (status == TRACKED)).nonzero()[0]
    if len(newly_lost):
        store.status[newly_lost] = LOST
        newly_lost = newly_lost[store.order[newly_lost].argsort()]
        store.order[newly_lost] = store.take_ranks(len(newly_lost))
        gone[newly_lost] = store.retired[newly_lost] > 0
    if num_lost:
        still_lost = unmatched & was_lost
        retired = store.retired[:count]
        gone |= still_lost & (retired > 0)
        retired[still_lost & (now - store.last_frame[:count] > max_lost)] = 1.0
    if count:
        births = _drop_duplicates(store, frame, births, gone)
        store.remove(gone)
    store.append(frame, births, birth_ranks[: len(births)], TENTATIVE, now)


def _match(
    store: TrackStore,
    frame: Frame,
    status: NDArray[np.float64],
    num_pool: int,
    now: float,
) -> tuple[Indices, Indices]:
    """Run the three stages and update the matched tracks.

    Returns:
        `(K,)` matched tracks and `(N - K,)` unmatched detections, ascending.
    """
    count, free = len(status), np.ones(len(frame), np.bool_)
    if not count or not len(frame):
        return np.zeros(0, np.intp), free.nonzero()[0]
    variance = kalman.innovation_variance(store.state[:, :count])
    matched, taken = match_appearance(
        store, frame, variance[:, :num_pool], _MOTION_SHARE, _APPEARANCE_LIMIT
    )
    free[taken] = False
    left = free.nonzero()[0]
    for wanted, limit in (
        (TRACKED, _OVERLAP_LIMIT),
        (TENTATIVE, _TENTATIVE_LIMIT),
    ):
        if not len(left):
            break
        candidate = status == wanted
        candidate[matched] = False
        tracks = candidate.nonzero()[0]
        if not len(tracks):
            continue
        more, new = match_overlap(store, frame, tracks, left, limit, _PIXEL)
        if len(more):
            matched, taken = np.concatenate((matched, more)), np.concatenate((taken, new))
            free[new] = False
            left = free.nonzero()[0]
    found = matched[status[matched] == LOST]
    old_scores = store.score[found]
    store.absorb(frame, matched, taken, variance.take(matched, axis=1), _MOMENTUM, now)
    store.score[found] = old_scores
    return matched, left


def _drop_duplicates(
    store: TrackStore, frame: Frame, births: Indices, gone: NDArray[np.bool_]
) -> Indices:
    """Mark in `gone` the younger track of every (tracked, lost) pair that overlaps.

    Returns:
        The births without those on top of a lost track.
    """
    status = store.status[: store.count]
    lost = ((status == LOST) & ~gone).nonzero()[0]
    if not len(lost):
        return births
    tracked = ((status == TRACKED) & ~gone).nonzero()[0]
    boxes = kalman.to_tlbr(store.state.take(tracked, axis=1))
    if len(births):
        boxes = np.concatenate((boxes, frame.tlbr[:, births]), axis=1)
    lost_boxes = kalman.to_tlbr(store.state.take(lost, axis=1))
    overlap = overlap_matrix(boxes, lost_boxes, _PIXEL)
    if not overlap.size or not overlap.max() > _DUPLICATE_OVERLAP:
        return births
    rows, columns = (overlap > _DUPLICATE_OVERLAP).nonzero()
    ages = store.last_frame - store.first_frame
    tracked_age = np.concatenate((ages[tracked], np.zeros(len(births))))[rows]
    lost_goes = tracked_age > ages[lost[columns]]
    gone[lost[columns[lost_goes]]] = True
    rows = rows[~lost_goes]
    gone[tracked[rows[rows < len(tracked)]]] = True
    kept = np.ones(len(births), np.bool_)
    kept[rows[rows >= len(tracked)] - len(tracked)] = False
    return births[kept]

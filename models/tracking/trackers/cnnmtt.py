"""CNNMTT after its description: appearance, place, shape and groups (Mahmoudi et al., 2019).

The paper describes features of a network, dynamics and position, people in groups who help to find
one another again, and the Hungarian method; it publishes neither code nor all formulas. This is
**ours after the description**: motion and shape are POI's, groups are people who have walked side
by side for some frames, and a second pass expects the members of a group where the others' matches
of the first pass have moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.affinity import look_affinity, place_affinity, shape_affinity
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices
from jde_ray.models.tracking.track import TENTATIVE, TRACKED, TrackStore
from jde_ray.models.tracking.trackers.poi import match_affinity, settle

COMPANIONS = 4  # that a track remembers
EXTRA = 2 * COMPANIONS  # numbers per track: rank + 1 of each companion, and the frames together
_MOTION_WEIGHT, _SHAPE_WEIGHT = 0.5, 1.5  # POI's


@dataclass(frozen=True, kw_only=True)
class CnnmttConfig(OneThresholdConfig):
    """Settings after CNNMTT's description; all values are ours.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a track is kept without a match.
        high_score: Detections below this score are ignored.
        min_hits: Detections a track needs before it is reported; one that is missed before ends.
        look_share: Weight of the cosine of the embeddings.
        motion_share: Weight of the nearness to the predicted place.
        shape_share: Weight of the likeness of the sizes.
        group_share: Weight of the nearness to the place that the group expects.
        least_affinity: Least weighted sum of a match.
        least_place: Least nearness to the predicted place, `exp(-d^2 / 2)` for a distance of d
            sizes of the detection.
        group_distance: Largest distance of companions, in mean heights.
        group_velocity: Largest difference of their velocities, in mean heights per frame.
        group_frames: Frames that companions have to stay together to be a group.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["cnnmtt"] = "cnnmtt"
    track_buffer: int = 60
    high_score: float = 0.3
    min_hits: int = 2
    look_share: float = 0.5
    motion_share: float = 0.2
    shape_share: float = 0.1
    group_share: float = 0.2
    least_affinity: float = 0.5
    least_place: float = 0.3
    group_distance: float = 1.5
    group_velocity: float = 0.15
    group_frames: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 1, 100)
        for name in ("look_share", "motion_share", "shape_share", "group_share"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("least_affinity", "least_place"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("group_distance", self.group_distance, 0.0, 100.0)
        check_range("group_velocity", self.group_velocity, 0.0, 100.0)
        check_range("group_frames", self.group_frames, 1, 1_000_000)


def associate(store: TrackStore, frame: Frame, config: CnnmttConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, count = step.now, store.count
    state = store.state[:, :count]
    kalman.predict(state, step.dt)
    variance = kalman.innovation_variance(state)
    affinity = affinities(store, frame, config)
    affinity[place_affinity(state[:4], frame, _MOTION_WEIGHT) < config.least_place] = -1.0
    together = frames_together(store)
    rows, columns = match_affinity(affinity, config.least_affinity)
    group = groups(together, config.group_frames)
    expected = group_affinity(state, frame, group, rows, columns)
    if expected.any():
        rows, columns = match_affinity(
            affinity + config.group_share * expected, config.least_affinity
        )
    store.absorb(frame, rows, columns, variance.take(rows, axis=1), 0.9, now, mean_first=True)
    remember(store, together, config, step)
    settle(store, config.min_hits, step)
    births = np.delete(np.arange(len(frame)), columns)
    start = TRACKED if config.min_hits == 1 else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)


def affinities(store: TrackStore, frame: Frame, config: CnnmttConfig) -> FloatArray:
    """`(M, N)` weighted sums of looks, place and shape, without those of groups.

    Without embeddings place and shape have the weight of looks too.
    """
    predicted = store.state[:4, : store.count]
    affinity = config.motion_share * place_affinity(predicted, frame, _MOTION_WEIGHT)
    affinity += config.shape_share * shape_affinity(predicted, frame, _SHAPE_WEIGHT)
    if store.width:
        affinity += config.look_share * look_affinity(store.embeddings[: store.count], frame)
    else:
        others = config.motion_share + config.shape_share
        affinity *= 1 + config.look_share / max(others, 1e-9)
    return np.asarray(affinity)


def frames_together(store: TrackStore) -> FloatArray:
    """`(M, M)` frames that each pair of tracks has stayed together, from what tracks remember."""
    count = store.count
    together = np.zeros((count, count))
    if not count:
        return together
    ranks = store.order[:count]
    by_rank = ranks.argsort()
    for slot in range(COMPANIONS):
        rank = store.extra[2 * slot, :count] - 1
        place = np.searchsorted(ranks, rank, sorter=by_rank).clip(max=count - 1)
        column = by_rank[place]
        own = ((ranks[column] == rank) & (rank >= 0)).nonzero()[0]  # others' tracks have ended
        together[own, column[own]] = store.extra[2 * slot + 1, own]
    return np.maximum(together, together.T)


def groups(together: FloatArray, least: float) -> Indices:
    """`(M,)` number of each track's group: those joined by pairs together for `least` frames."""
    if not (together >= least).any():
        return np.arange(len(together))
    from scipy.sparse.csgraph import connected_components  # a third of a second

    return np.asarray(connected_components(together >= least, directed=False)[1], np.intp)


def group_affinity(
    state: kalman.State, frame: Frame, group: Indices, matched: Indices, taken: Indices
) -> FloatArray:
    """Nearness to where the other members of a track's group have moved; 0 without any.

    The group moves by the mean of the differences between its members' detections and predictions.

    Args:
        state: `(20, M)` predicted tracks.
        frame: N detections.
        group: `(M,)` number of each track's group.
        matched: `(K,)` tracks of a first pass.
        taken: `(K,)` their detections.

    Returns:
        `(M, N)` `exp(-(d / (h / 2))^2)` with the distance d and the track's height h.
    """
    shift = np.zeros((3, len(group)))  # x, y and 1, of tracks that are matched
    shift[:2, matched] = frame.xyah[:2, taken] - state[:2, matched]
    shift[2, matched] = 1.0
    total = np.zeros((int(group.max(initial=-1)) + 1, 3))
    np.add.at(total, group, shift.T)
    others = total[group].T - shift
    counted = np.maximum(others[2], 1)
    place = state[:2] + others[:2] / counted
    squares = ((place[:, :, None] - frame.xyah[:2, None, :]) ** 2).sum(axis=0)
    reach = (0.5 * np.maximum(state[3], 1e-9)) ** 2
    return np.asarray(np.exp(-squares / reach[:, None]) * (others[2] > 0)[:, None])


def remember(
    store: TrackStore, together: FloatArray, config: CnnmttConfig, step: Step
) -> FloatArray:
    """Count the frame for pairs that were both seen and are companions; others start anew.

    Pairs of which one was not seen keep their count. A track remembers those of its companions
    with whom it has been longest.

    Returns:
        `(M, M)` new counts.
    """
    count = store.count
    state = store.state[:, :count]
    seen = store.last_frame[:count] == step.now
    apart = _distances(state[kalman.POSITION][:2])
    height = (state[3][:, None] + state[3]) / 2
    near = apart < config.group_distance * height
    near &= _distances(state[kalman.VELOCITY][:2]) < config.group_velocity * height
    np.fill_diagonal(near, val=False)
    both = seen[:, None] & seen
    together = np.where(both, np.where(near, together + step.dt, 0.0), together)
    store.extra[:, :count] = 0.0
    if count > 1:
        # of equally many frames, the nearest one
        order = (together - apart / (1 + apart.max())).argsort(axis=1)[:, ::-1]
        for slot, column in enumerate(order.T[:COMPANIONS]):
            frames = together[np.arange(count), column]
            store.extra[2 * slot, :count] = np.where(frames > 0, store.order[column] + 1, 0.0)
            store.extra[2 * slot + 1, :count] = frames
    return together


def _distances(points: FloatArray) -> FloatArray:
    """`(M, M)` distances of `(2, M)` points."""
    return np.asarray(np.hypot(*(points[:, :, None] - points[:, None, :])))

"""POI: affinity of appearance, motion and shape; good tracks choose first (Yu et al., ECCVW 2016).

The affinity of a predicted track and a detection is the product of three: the cosine of their
embeddings, the nearness of their centres and the likeness of their sizes. A track is good if its
matches fitted well and it is long. Good tracks are matched with all detections first, the others
with those that are left. A track's embedding is the mean of all its detections', weighted by the
quality of their pictures if the embedder tells it (`models.tracking.set_features`). The authors
published no code: who is confirmed when is our own choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.affinity import look_affinity, place_affinity, shape_affinity
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices, assign, pairs_below
from jde_ray.models.tracking.set_features import with_pictures
from jde_ray.models.tracking.track import LOST, TENTATIVE, TRACKED, TrackStore

# numbers per track: the sum of the affinities of its matches; the length of the sum behind its
# embedding if pictures have qualities, else 0
EXTRA = 2


@dataclass(frozen=True, kw_only=True)
class PoiConfig(OneThresholdConfig):
    """Settings of POI; the weights are the paper's.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a track is kept without a match.
        high_score: Detections below this score are ignored.
        min_hits: Detections a track needs before it is reported; one that is missed before ends.
        motion_weight: How fast the affinity falls with the distance, in sizes of the detection.
        shape_weight: How fast it falls with the difference of the sizes.
        length_weight: How fast a track's quality rises with the root of its length.
        least_affinity: Least affinity of a match.
        least_quality: Quality from which a track chooses first.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["poi"] = "poi"
    track_buffer: int = 100
    high_score: float = 0.3
    min_hits: int = 2
    motion_weight: float = 0.5
    shape_weight: float = 1.5
    length_weight: float = 1.2
    least_affinity: float = 0.4
    least_quality: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 1, 100)
        for name in ("motion_weight", "shape_weight", "length_weight"):
            check_range(name, getattr(self, name), 0.0, 100.0)
        for name in ("least_affinity", "least_quality"):
            check_range(name, getattr(self, name), 0.0, 1.0)


def associate(store: TrackStore, frame: Frame, config: PoiConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, count = step.now, store.count
    state = store.state[:, :count]
    kalman.predict(state, step.dt)
    affinity = affinities(store, frame, config)
    is_good = qualities(store, config) >= config.least_quality
    free = np.ones(len(frame), np.bool_)
    matched = taken = np.zeros(0, np.intp)
    for tracks in (is_good.nonzero()[0], (~is_good).nonzero()[0]):
        left = free.nonzero()[0]
        rows, columns = match_affinity(affinity[np.ix_(tracks, left)], config.least_affinity)
        matched = np.concatenate((matched, tracks[rows]))
        taken = np.concatenate((taken, left[columns]))
        free[left[columns]] = False
    store.extra[0, matched] += affinity[matched, taken]
    variance = kalman.innovation_variance(state.take(matched, axis=1))
    before = store.embeddings[matched]
    store.absorb(frame, matched, taken, variance, 1.0, now, mean_first=True)
    weigh(store, frame, matched, taken, before)
    settle(store, config.min_hits, step)
    births = free.nonzero()[0]
    start = TRACKED if config.min_hits == 1 else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)
    born = np.arange(store.count - len(births), store.count)
    weigh(store, frame, born, births, store.embeddings[born])


def weigh(
    store: TrackStore,
    frame: Frame,
    tracks: Indices,
    detections: Indices,
    before: NDArray[np.float32],
) -> None:
    """Replace the plain means of tracks by those weighted with qualities, if there are any.

    Args:
        store: The tracks, new ones with a length of 0.
        frame: The detections.
        tracks: `(K,)` columns of tracks that have taken a detection.
        detections: `(K,)` indices of these.
        before: `(K, D)` the tracks' embeddings before.
    """
    if frame.quality is None or not len(tracks):
        return
    features, lengths = with_pictures(
        before, store.extra[1, tracks], frame.embeddings[detections], frame.quality[detections]
    )
    store.embeddings[tracks], store.extra[1, tracks] = features, lengths


def affinities(store: TrackStore, frame: Frame, config: PoiConfig) -> FloatArray:
    """`(M, N)` affinities of the predicted tracks and the detections, in [0, 1]."""
    predicted = store.state[:4, : store.count]
    affinity = look_affinity(store.embeddings[: store.count], frame)
    affinity *= place_affinity(predicted, frame, config.motion_weight)
    affinity *= shape_affinity(predicted, frame, config.shape_weight)
    return affinity


def qualities(store: TrackStore, config: PoiConfig) -> FloatArray:
    """`(M,)` mean affinities of the matches times `1 - exp(-length_weight sqrt(length))`."""
    length = store.hits[: store.count]
    mean = store.extra[0, : store.count] / np.maximum(length - 1, 1)
    return np.asarray(mean * (1 - np.exp(-config.length_weight * np.sqrt(length))))


def match_affinity(affinity: FloatArray, least: float) -> tuple[Indices, Indices]:
    """The assignment with the best sum of affinities, of pairs with at least `least`.

    Args:
        affinity: `(M, N)` in [0, 1].
        least: Least affinity of a match.

    Returns:
        `(K,)` rows and `(K,)` columns.
    """
    limit = float(np.nextafter(1 - least, np.inf))
    rows, columns, cost = pairs_below(1 - affinity, limit)
    chosen = assign(rows, columns, cost, limit)
    return rows[chosen], columns[chosen]


def settle(store: TrackStore, min_hits: int, step: Step) -> None:
    """Set the status of matched and missed tracks; end those missed too early or for too long.

    Args:
        store: Tracks of which the matched ones have absorbed their detections.
        min_hits: Detections a track needs before it is reported.
        step: Time of the frame.
    """
    count = store.count
    unseen = store.last_frame[:count] != step.now
    young = store.hits[:count] < min_hits
    status = store.status[:count]
    status[~unseen & young] = TENTATIVE
    status[unseen & ~young] = LOST
    store.remove(unseen & (young | (step.now - store.last_frame[:count] > step.max_lost)))

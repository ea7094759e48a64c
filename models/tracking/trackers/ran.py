"""RAN: a recurrent autoregression foretells each track (Fang et al., WACV 2018; RAR16wVGG).

The likelihood of a detection as the next one of a track decides who belongs to whom: Hungarian on
its negative logarithm. Motion is the paper's autoregression (`models.tracking.autoregression`),
learned by `jde train`. Appearance is **ours**: the paper has a second autoregression over
descriptors, here the likelihood falls with the cosine distance to the mean of a track's
embeddings. So is the memory's unit, changes per frame over the height, and what a track that was
hidden for some frames is thought to have done meanwhile (`likelihoods`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import autoregression, mean_velocity
from jde_ray.models.tracking.autoregression import (
    HIDDEN,
    INPUTS,
    MEMORY,
    NUMBERS,
    Array,
    Autoregression,
)
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import assign, pairs_below
from jde_ray.models.tracking.track import TENTATIVE, TRACKED, TrackStore
from jde_ray.models.tracking.trackers.poi import settle

EXTRA = NUMBERS  # numbers per track: the recurrent state, then the memory


@dataclass(frozen=True, kw_only=True)
class RanConfig(OneThresholdConfig):
    """Settings of RAN; confirmation and life of tracks are the paper's.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a track is kept without a match.
        high_score: Detections below this score are ignored.
        min_hits: Detections a track needs before it is reported; one that is missed before ends.
        weights: File of the autoregression, the result of `jde train` with `network: ran`;
            required.
        weights_sha256: Fingerprint of that file, filled in before a run starts.
        look_spread: How far apart embeddings of a person are: the log likelihood is the cosine
            distance over the square of this.
        margin: How far the log likelihood of a match may lie below what 99 % of the true steps of
            the training exceeded.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["ran"] = "ran"
    track_buffer: int = 10
    high_score: float = 0.3
    min_hits: int = 3
    weights: str = ""
    weights_sha256: str = ""
    look_spread: float = 0.3
    margin: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 1, 100)
        check_range("look_spread", self.look_spread, 0.01, 100.0)
        check_range("margin", self.margin, -1000.0, 1000.0)

    def settled(self) -> RanConfig:
        """The settings with the fingerprint of their file.

        Raises:
            ValueError: If the file is missing, or another one; one line.
        """
        autoregression.read(self.weights)
        digest = hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()
        return replace(self, weights_sha256=digest)


def associate(store: TrackStore, frame: Frame, config: RanConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, count = step.now, store.count
    model = autoregression.of_file(config.weights)
    state = store.state[:, :count]
    mean_velocity.predict(state, step.dt)
    likelihood = likelihoods(store, frame, config, model)
    limit = float(np.nextafter(config.margin - float(model.least), np.inf))
    rows, columns, cost = pairs_below(-likelihood, limit)
    chosen = assign(rows, columns, cost, limit)
    rows, columns = rows[chosen], columns[chosen]
    before, elapsed = mean_velocity.last_observed(state[:, rows])
    found = mean_velocity.measure(frame.xyah[:, columns])
    taken = autoregression.to_input(before, found, elapsed)
    hidden, memory = model.take(*remembered(store.extra[:, rows]), taken)
    store.extra[:HIDDEN, rows] = hidden
    store.extra[HIDDEN:, rows] = memory.reshape(MEMORY * INPUTS, len(rows))
    nothing = np.zeros((4, len(rows)))  # of a variance, since boxes are not filtered
    store.absorb(frame, rows, columns, nothing, 0.9, now, mean_first=True)
    settle(store, config.min_hits, step)
    births = np.delete(np.arange(len(frame)), columns)
    start = TRACKED if config.min_hits == 1 else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)


def likelihoods(
    store: TrackStore, frame: Frame, config: RanConfig, model: Autoregression
) -> FloatArray:
    """`(M, N)` log likelihoods of the detections as the next ones of the tracks.

    After n frames a person has moved n times as far as foretold, with n times the variance.
    """
    count = store.count
    before, elapsed = mean_velocity.last_observed(store.state[:, :count])
    found = mean_velocity.measure(frame.xyah)
    moved = autoregression.to_input(before[:, :, None], found[:, None, :], 1.0)
    mean, log_variance = model.predict(*remembered(store.extra[:, :count]))
    mean, log_variance = mean * elapsed, log_variance + np.log(elapsed)
    total = autoregression.log_density(moved, mean[:, :, None], log_variance[:, :, None])
    if store.width:
        cosine = (store.embeddings[:count] @ frame.embeddings.T).astype(np.float64)
        total -= (1 - cosine) / config.look_spread**2
    return total


def remembered(extra: Array) -> tuple[Array, Array]:
    """`(HIDDEN, M)` states and `(MEMORY, INPUTS, M)` memories of `(EXTRA, M)` numbers."""
    return extra[:HIDDEN], extra[HIDDEN:].reshape(MEMORY, INPUTS, extra.shape[1])

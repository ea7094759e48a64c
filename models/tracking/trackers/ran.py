"""RAN: recurrent autoregressions foretell each track (Fang et al., WACV 2018; RAR16wVGG).

The likelihood of a detection as the next one of a track decides who belongs to whom: Hungarian on
its negative logarithm, which is the sum of motion's and appearance's. Both are the paper's
autoregressions (`models.tracking.ran_weights`), learned by `jde train`. **Ours** are the memory's
unit, changes per frame over the height; what a track that was hidden for some frames is thought to
have done meanwhile (`likelihoods`); the embeddings' components; and the rule `cosine`, by which the
likelihood falls with the cosine distance to the mean of a track's embeddings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import autoregression, mean_velocity, ran_weights
from jde_ray.models.tracking.autoregression import NUMBERS, Array
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.matching import Indices, assign, pairs_below
from jde_ray.models.tracking.ran_weights import Looks, RanWeights
from jde_ray.models.tracking.track import TENTATIVE, TRACKED, TrackStore
from jde_ray.models.tracking.trackers.poi import settle

EXTRA = NUMBERS  # numbers per track: state and memory of motion; those of appearance follow


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
        appearance: `learned` foretells embeddings by the file, if it was learned from some, and is
            `cosine` otherwise; `cosine` compares with the mean of the track's.
        look_spread: With `cosine`, how far apart embeddings of a person are: the log likelihood is
            the cosine distance over the square of this.
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
    appearance: Literal["learned", "cosine"] = "learned"
    look_spread: float = 0.3
    margin: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 1, 100)
        if self.appearance not in ("learned", "cosine"):
            got = f"got {self.appearance!r}"
            raise ValueError(f"appearance: {got}, expected learned | cosine")
        check_range("look_spread", self.look_spread, 0.01, 100.0)
        check_range("margin", self.margin, -1000.0, 1000.0)

    def settled(self) -> RanConfig:
        """The settings with the fingerprint of their file.

        Raises:
            ValueError: If the file is missing, or another one; one line.
        """
        ran_weights.read(self.weights)
        digest = hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()
        return replace(self, weights_sha256=digest)

    @property
    def looks(self) -> Looks | None:
        """What was learned of appearance; None if it is not used."""
        if self.appearance != "learned":
            return None
        return ran_weights.of_file(self.weights).looks

    def check_embedder(self, sha256: str) -> None:
        """Refuse the embeddings of another network than that of which appearance was learned.

        Args:
            sha256: Fingerprint of the network of a run; empty if it is unknown.

        Raises:
            ValueError: If it is another one; one line.
        """
        looks = self.looks
        if looks is None or not (sha256 and looks.projection.embedder_sha256):
            return
        own = looks.projection
        if sha256 != own.embedder_sha256:
            was = f"{own.embedder or 'a network'} ({own.embedder_sha256[:8]})"
            raise ValueError(
                f"tracking weights: got embeddings of {sha256[:8]}, expected those of {was}, of"
                " which appearance was learned; or set `appearance: cosine`"
            )


def num_extra(config: RanConfig, width: int) -> int:
    """Numbers per track, for embeddings of a width."""
    looks = config.looks
    if looks is None or width != looks.projection.width:
        return EXTRA
    return EXTRA + looks.regression.numbers


def associate(store: TrackStore, frame: Frame, config: RanConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, count = step.now, store.count
    weights = ran_weights.of_file(config.weights)
    looks = config.looks if len(store.extra) > EXTRA else None
    state = store.state[:, :count]
    mean_velocity.predict(state, step.dt)
    likelihood = likelihoods(store, frame, config, weights)
    least = weights.motion.least
    seen = np.zeros((0, len(frame)))
    if looks is not None:
        seen, least = looks.projection.apply(frame.embeddings), looks.regression.least
        # who has no embedding is as likely as makes both limits one
        unknown = float(least - weights.motion.least)
        likelihood += looks.likelihoods(store.extra[EXTRA:, :count], seen, unknown)
    limit = float(np.nextafter(config.margin - float(least), np.inf))
    rows, columns, cost = pairs_below(-likelihood, limit)
    chosen = assign(rows, columns, cost, limit)
    rows, columns = rows[chosen], columns[chosen]
    _remember(store, frame, weights, (rows, columns))
    if looks is not None:
        store.extra[EXTRA:, rows] = looks.take(store.extra[EXTRA:, rows], seen[:, columns])
    nothing = np.zeros((4, len(rows)))  # of a variance, since boxes are not filtered
    store.absorb(frame, rows, columns, nothing, 0.9, now, mean_first=True)
    settle(store, config.min_hits, step)
    births = np.delete(np.arange(len(frame)), columns)
    start, first = TRACKED if config.min_hits == 1 else TENTATIVE, store.count
    store.append(frame, births, store.take_ranks(len(births)), start, now)
    if looks is not None:
        born = slice(first, store.count)
        store.extra[EXTRA:, born] = looks.take(store.extra[EXTRA:, born], seen[:, births])


def likelihoods(
    store: TrackStore, frame: Frame, config: RanConfig, weights: RanWeights
) -> FloatArray:
    """`(M, N)` log likelihoods of the detections as the next ones of the tracks, by motion.

    After n frames a person has moved n times as far as foretold, with n times the variance. Where
    appearance is not learned, the rule `cosine` takes part.
    """
    count, motion = store.count, weights.motion
    before, elapsed = mean_velocity.last_observed(store.state[:, :count])
    found = mean_velocity.measure(frame.xyah)
    moved = autoregression.to_input(before[:, :, None], found[:, None, :], 1.0)
    mean, log_variance = motion.predict(*motion.split(store.extra[:EXTRA, :count]))
    mean, log_variance = mean * elapsed, log_variance + np.log(elapsed)
    total = autoregression.log_density(moved, mean[:, :, None], log_variance[:, :, None])
    if store.width and len(store.extra) == EXTRA:
        cosine = (store.embeddings[:count] @ frame.embeddings.T).astype(np.float64)
        total -= (1 - cosine) / config.look_spread**2
    return total


def _remember(
    store: TrackStore, frame: Frame, weights: RanWeights, matched: tuple[Indices, Indices]
) -> None:
    """Let the matched tracks take their changes of box, before they absorb the detections."""
    rows, columns = matched
    motion = weights.motion
    before, elapsed = mean_velocity.last_observed(store.state[:, rows])
    found = mean_velocity.measure(frame.xyah[:, columns])
    taken: Array = autoregression.to_input(before, found, elapsed)
    kept = motion.split(store.extra[:EXTRA, rows])
    store.extra[:EXTRA, rows] = motion.join(*motion.take(*kept, taken))

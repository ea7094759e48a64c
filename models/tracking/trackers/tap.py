"""TAP: online tracking as matching of hypergraphs, by tensor power iteration (Zhou et al., 2018).

Tracks and detections near their predicted places are candidates. Their own affinity is that of
looks and velocity; neighbouring tracks ought to keep their relative places, triangles of them their
angles. `hypergraph.solve` finds shares of all of them together, and the Hungarian method rounds
these. The paper gives the method, not its constants, which are ours; births and deaths are as in
DeepSORT.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking import kalman
from jde_ray.models.tracking.affinity import look_affinity, place_affinity
from jde_ray.models.tracking.config import OneThresholdConfig, check_range
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.hypergraph import Graph, neighbours, solve
from jde_ray.models.tracking.track import TENTATIVE, TRACKED, TrackStore
from jde_ray.models.tracking.trackers.poi import match_affinity, settle

_CANDIDATES = 4  # per track, those with the largest affinity
_LEAST_OWN = 1e-3  # every candidate can win, however little it is alike


@dataclass(frozen=True, kw_only=True)
class TapConfig(OneThresholdConfig):
    """Settings of TAP; the values are ours.

    Attributes:
        association: Name of the association.
        track_buffer: Frames of the video that a confirmed track is kept without a match.
        high_score: Detections below this score are ignored.
        min_hits: Detections a track needs before it is confirmed and reported.
        velocity_spread: Difference of velocities at which the affinity has fallen to 1 / e, in
            heights per frame.
        place_spread: The same for relative places of neighbours, in heights.
        angle_spread: The same for the sum of the changes of a triangle's angles, in radians.
        pair_share: Weight of the neighbours' relative places.
        triple_share: Weight of the triangles.
        neighbours: Nearest tracks whose relative places count.
        dummy_affinity: Affinity of having no partner.
        least_share: Least share of a match.
        least_place: Least nearness of candidates to the predicted place, `exp(-d^2 / 2)` for a
            distance of d sizes of the detection.

    Raises:
        ValueError: If a value is out of range.
    """

    association: Literal["tap"] = "tap"
    track_buffer: int = 30
    high_score: float = 0.3
    min_hits: int = 3
    velocity_spread: float = 0.2
    place_spread: float = 0.1
    angle_spread: float = 0.5
    pair_share: float = 1.0
    triple_share: float = 0.5
    neighbours: int = 3
    dummy_affinity: float = 0.1
    least_share: float = 0.5
    least_place: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("min_hits", self.min_hits, 1, 100)
        for name in ("velocity_spread", "place_spread", "angle_spread", "dummy_affinity"):
            check_range(name, getattr(self, name), 1e-6, 100.0)
        for name in ("pair_share", "triple_share"):
            check_range(name, getattr(self, name), 0.0, 100.0)
        check_range("neighbours", self.neighbours, 0, 20)
        check_range("least_share", self.least_share, 0.0, 1.0)
        check_range("least_place", self.least_place, 0.0, 1.0)


def associate(store: TrackStore, frame: Frame, config: TapConfig, step: Step) -> None:
    """Advance the tracks by one frame; arguments are those of `registry.associate`."""
    now, count = step.now, store.count
    state = store.state[:, :count]
    before = state[:2].copy()
    kalman.predict(state, step.dt)
    variance = kalman.innovation_variance(state)
    graph = build_graph(store, frame, config, before, step.dt)
    share, _ = solve(graph)
    rows, columns = match_affinity(share[:-1, :-1], config.least_share)
    store.absorb(frame, rows, columns, variance.take(rows, axis=1), 0.9, now, mean_first=True)
    settle(store, config.min_hits, step)
    births = np.delete(np.arange(len(frame)), columns)
    start = TRACKED if config.min_hits == 1 else TENTATIVE
    store.append(frame, births, store.take_ranks(len(births)), start, now)


def build_graph(
    store: TrackStore, frame: Frame, config: TapConfig, before: FloatArray, dt: float
) -> Graph:
    """Candidates of the predicted tracks, with their edges and triangles.

    Args:
        store: Predicted tracks.
        frame: The detections.
        config: Spreads and weights.
        before: `(2, M)` centres of the tracks in the last frame.
        dt: Time since then in frames.
    """
    state = store.state[:, : store.count]
    own = own_affinity(store, frame, config, dt)
    gate = place_affinity(state[:4], frame, 0.5) >= config.least_place
    own[~gate] = -1.0
    if own.shape[1] > _CANDIDATES:  # the others of a track are left out
        least = np.partition(own, -_CANDIDATES, axis=1)[:, -_CANDIDATES, None]
        gate &= own >= least
    rows, columns = gate.nonzero()
    of_track: list[list[int]] = [[] for _ in range(store.count)]
    for number, row in enumerate(rows.tolist()):
        of_track[row].append(number)
    places, heights = before, np.maximum(state[3], 1e-9)
    near = neighbours(places, config.neighbours) if config.neighbours else [[] for _ in of_track]
    found = frame.xyah[:2]
    edges, triangles = [], []
    for track, others in enumerate(near):
        for other in others:
            edges += list(product(of_track[track], of_track[other]))
        for first, second in pairwise(others):
            triangles += list(product(of_track[track], of_track[first], of_track[second]))
    pairs = np.array(edges, np.intp).reshape(-1, 2)
    pairs = pairs[columns[pairs[:, 0]] != columns[pairs[:, 1]]]
    triples = np.array(triangles, np.intp).reshape(-1, 3)
    taken = columns[triples]
    distinct = (taken[:, 0] != taken[:, 1]) & (taken[:, 0] != taken[:, 2])
    triples = triples[distinct & (taken[:, 1] != taken[:, 2])]
    return Graph(
        shape=(store.count, len(frame)),
        rows=rows,
        columns=columns,
        own=np.maximum(own[rows, columns], _LEAST_OWN),
        pairs=pairs,
        pair_affinity=config.pair_share
        / max(config.neighbours, 1)
        * _kept_places(places, found, rows[pairs], columns[pairs], heights, config.place_spread),
        triples=triples,
        triple_affinity=config.triple_share
        / max(config.neighbours - 1, 1)
        * _kept_angles(places, found, rows[triples], columns[triples], config.angle_spread),
        dummy=config.dummy_affinity,
    )


def own_affinity(store: TrackStore, frame: Frame, config: TapConfig, dt: float) -> FloatArray:
    """`(M, N)` cosines times `exp(-|v - v'|^2 / (s h)^2)` of predicted and new velocities."""
    count = store.count
    state = store.state[:, :count]
    # what the velocities differ by is the distance from the predicted place, per frame
    apart = np.hypot(*(state[:2, :, None] - frame.xyah[:2, None, :])) / dt
    spread = config.velocity_spread * np.maximum(state[3], 1e-9)[:, None]
    nearness = np.exp(-((apart / spread) ** 2))
    return np.asarray(look_affinity(store.embeddings[:count], frame) * nearness)


def _kept_places(
    before: FloatArray, found: FloatArray, tracks: FloatArray, taken: FloatArray,
    heights: FloatArray, spread: float,
) -> FloatArray:  # fmt: skip
    """`(E,)` affinities of pairs of candidates by how well they keep their relative place."""
    (a, b), (j, q) = tracks.T, taken.T
    change = (before[:, a] - before[:, b]) - (found[:, j] - found[:, q])
    scale = spread * (heights[a] + heights[b]) / 2
    return np.asarray(np.exp(-(change**2).sum(axis=0) / scale**2))


def _kept_angles(
    before: FloatArray, found: FloatArray, tracks: FloatArray, taken: FloatArray, spread: float
) -> FloatArray:
    """`(T,)` affinities of triangles of candidates by the changes of their angles."""
    change = np.abs(_angles(before, tracks) - _angles(found, taken)).sum(axis=0)
    return np.asarray(np.exp(-change / spread))


def _angles(points: FloatArray, corners: FloatArray) -> FloatArray:
    """`(3, T)` angles in radians at the corners of triangles of `(2, M)` points."""
    a, b, c = (points[:, corner] for corner in corners.T)
    sides = [b - a, c - b, a - c]
    angles = []
    for out, back in ((sides[0], -sides[2]), (sides[1], -sides[0]), (sides[2], -sides[1])):
        cross = out[0] * back[1] - out[1] * back[0]
        angles.append(np.abs(np.arctan2(cross, (out * back).sum(axis=0))))
    return np.stack(angles)

"""Linking: whose are the pieces of a video's tracks?

Every pair of pieces that may follow each other has a log-likelihood ratio: of motion, which speaks
in short gaps, of appearance, and of the chance that somebody comes back after such a time. Short
gaps are closed first, all at once, by the assignment with the greatest sum. The chains that result
have better means; they are merged by agglomeration over the whole video, the surest first. Nobody
is ever twice in a frame.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.agglomeration import merge
from jde_ray.models.tracking.postprocessing.cutting import Pieces, cut, piece_means
from jde_ray.models.tracking.postprocessing.evidence import Evidence, LinkSettings, Looks
from jde_ray.models.tracking.postprocessing.glimpses import Embeddings, take_glimpses
from jde_ray.models.tracking.postprocessing.motion import observe
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

SHORT_S = 1.0  # gaps up to this many seconds are closed first
_PAIRS = 1 << 18  # of pieces that are compared at once


def link(
    tracks: Trajectories,
    settings: LinkSettings,
    frames_per_second: float,
    stride: int = 1,
    embeddings: Embeddings | None = None,
) -> Trajectories:
    """Cut tracks where the person may have changed, and join the pieces of each person.

    Boxes do not change, and none are added or left out. A person has the id of the track that most
    of their rows had, or a new id above all others if another person has more rows of that track.
    The result does not depend on the order of rows in a file.

    Args:
        tracks: All tracks of a video.
        settings: How readily to cut and join.
        frames_per_second: Rate of the video.
        stride: Every n-th frame was tracked.
        embeddings: `(N, D)` appearance vectors by `tracks.source`; without them motion alone
            speaks, in short gaps.
    """
    if len(tracks) < 2:
        return tracks
    glimpses = take_glimpses(tracks, embeddings, stride)
    pieces, appearance = cut(glimpses, frames_per_second, stride, settings.change)
    motion = observe(tracks, pieces.rows, frames_per_second)
    looks = None
    if appearance is not None and glimpses.sums is not None:
        looks = Looks(appearance, *piece_means(glimpses.sums, pieces))
    evidence = Evidence(tracks, pieces, motion, settings, frames_per_second, looks)
    chains = _close_short_gaps(evidence)
    if looks is not None:
        chains = merge(evidence, chains)
    return _renumber(tracks, pieces, chains)


def _close_short_gaps(evidence: Evidence) -> list[IntArray]:
    """Chains of pieces in the order of time: the assignment with the greatest sum of evidence.

    Without embeddings it also decides on longer gaps that the tracker bridged.
    """
    by_start = np.argsort(evidence.first, kind="stable")
    before, after, score = _followers(evidence, by_start)
    if evidence.looks is None:
        bridged = np.flatnonzero(evidence.continues)
        bridged = bridged[evidence.first[bridged] - evidence.last[bridged - 1] > _reach(evidence)]
        trusted = evidence.contact(bridged - 1, bridged)
        bridged, trusted = bridged[trusted > 0], trusted[trusted > 0]
        before, after = np.append(before, bridged - 1), np.append(after, bridged)
        score = np.append(score, trusted)
    successor = _best_successors(before, after, score, len(evidence))
    chains: list[list[int]] = []
    waiting: dict[int, list[int]] = {}  # by the piece that continues the chain
    for piece in by_start.tolist():
        chain = waiting.pop(piece, None)
        if chain is None:
            chain = []
            chains.append(chain)
        chain.append(piece)
        if successor[piece] >= 0:
            waiting[int(successor[piece])] = chain
    return [np.array(chain, np.int64) for chain in chains]


def _reach(evidence: Evidence) -> float:
    """Frames of the longest gap that is short."""
    return SHORT_S * evidence.rate


def _followers(evidence: Evidence, by_start: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of pieces with a short gap, and evidence for one person."""
    starts = evidence.first[by_start]
    low = np.searchsorted(starts, evidence.last, "right")
    high = np.searchsorted(starts, evidence.last + _reach(evidence), "right")
    number = high - low
    portions = np.cumsum(number) // _PAIRS
    found = []
    for portion in np.unique(portions):
        pieces = np.flatnonzero(portions == portion)
        before = np.repeat(pieces, number[pieces])
        ends = np.cumsum(number[pieces])
        place = np.arange(len(before)) - np.repeat(ends - number[pieces], number[pieces])
        after = by_start[low[before] + place]
        contact = evidence.contact(before, after)
        likely = np.isfinite(contact)
        before, after, score = before[likely], after[likely], contact[likely]
        score = score + evidence.appearance(before, after)
        found.append((before[score > 0], after[score > 0], score[score > 0]))
    before, after, score = (np.concatenate(part) for part in zip(*found, strict=True))
    return before, after, score


def _best_successors(before: IntArray, after: IntArray, score: FloatArray, count: int) -> IntArray:
    """`(count,)` successor of each piece, -1 for none; the sum of the scores is the greatest."""
    most = float(score.max(initial=0)) + 1
    # a column of its own for each piece stands for "nobody follows"; weights must not be 0
    rows = np.append(before, np.arange(count))
    columns = np.append(after, count + np.arange(count))
    weights = np.append(most - score, np.full(count, most))
    graph = coo_array((weights, (rows, columns)), shape=(count, 2 * count)).tocsr()
    row, column = min_weight_full_bipartite_matching(graph)
    successor = np.full(count, -1)
    successor[row] = np.where(column < count, column, -1)
    return successor


def _renumber(tracks: Trajectories, pieces: Pieces, chains: list[IntArray]) -> Trajectories:
    """Give the rows of each chain one id."""
    chain_of_piece = np.empty(len(pieces), np.int64)
    for number, chain in enumerate(chains):
        chain_of_piece[chain] = number
    length = pieces.rows[:, 1] - pieces.rows[:, 0]
    id_of_piece = tracks.track_id[pieces.rows[:, 0]]
    shares, at = np.unique(np.stack([chain_of_piece, id_of_piece]), axis=1, return_inverse=True)
    rows = np.bincount(at, weights=length)
    first = np.full(len(chains), np.iinfo(np.int64).max)
    np.minimum.at(first, chain_of_piece, pieces.rows[:, 0])
    own = np.full(len(chains), -1)
    taken: set[int] = set()
    for share in np.lexsort((shares[1], first[shares[0]], -rows)).tolist():
        chain, track_id = shares[:, share].tolist()
        if own[chain] < 0 and track_id not in taken:
            own[chain] = track_id
            taken.add(track_id)
    unnamed = np.flatnonzero(own < 0)
    unnamed = unnamed[np.lexsort((first[unnamed], tracks.frame[first[unnamed]]))]
    own[unnamed] = int(tracks.track_id.max()) + 1 + np.arange(len(unnamed))
    return tracks.with_ids(np.repeat(own[chain_of_piece], length))

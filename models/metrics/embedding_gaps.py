"""How well embeddings tell people apart by the time between two sightings.

Pairs of sightings of one person, some frames apart, are set against pairs of different people
that are as many frames apart. Single sightings are compared, and means of five.

Pairs are sampled with a fixed seed, so memory does not grow with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from jde_ray.models.metrics.embedding import unit_rows
from jde_ray.models.structures import FloatArray, IntArray

GAPS = ((1, 5), (10, 60), (60, 300))  # frames, both ends included
FALSE_ACCEPT_RATES = (0.05, 0.1)
FIVE, WITHIN = 5, 20  # sightings in a mean, and the frames that they may span
MOST_PAIRS = 20_000  # of one person, by range of gaps
_OTHERS = 3  # times as many pairs are drawn of all people, of which those of one are left out
_SEED = 20_190
_BLOCK = 4096  # means computed or compared at once


@dataclass(frozen=True)
class Sightings:
    """Embeddings of known people over the frames of a sequence.

    Attributes:
        embeddings: `(n, D)` vectors of any length, float16 or wider.
        identities: `(n,)` people.
        frames: `(n,)` frames; a person has one sighting per frame.
        is_clean: `(n,)` bool, whether the sighting may be part of a mean of five.

    Raises:
        ValueError: If the shapes disagree.
    """

    embeddings: FloatArray
    identities: IntArray
    frames: IntArray
    is_clean: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.embeddings)
        shapes = (self.identities.shape, self.frames.shape, self.is_clean.shape)
        if self.embeddings.ndim != 2 or set(shapes) != {(n,)}:
            got = (self.embeddings.shape, *shapes)
            raise ValueError(f"sightings: got shapes {got}, expected (n, D), (n,), (n,), (n,)")


@dataclass(frozen=True)
class GapSimilarities:
    """Cosine similarities of the sampled pairs in one range of gaps.

    Attributes:
        same: `(p,)` of one person.
        different: `(q,)` of different people.
    """

    same: FloatArray
    different: FloatArray

    def __add__(self, other: GapSimilarities) -> GapSimilarities:
        return GapSimilarities(
            np.concatenate([self.same, other.same]),
            np.concatenate([self.different, other.different]),
        )

    @property
    def area(self) -> float:
        """AUC: probability that a pair of one person is the more similar; NaN without pairs."""
        p, q = len(self.same), len(self.different)
        if not p or not q:
            return float("nan")
        ranks = rankdata(np.concatenate([self.same, self.different]))
        return float((ranks[:p].sum() - p * (p + 1) / 2) / (p * q))

    def accepted(self, false_accept_rate: float) -> float:
        """TPR: share of the pairs of one person above what this share of the others exceeds."""
        if not len(self.same) or not len(self.different):
            return float("nan")
        threshold = np.quantile(self.different, 1 - false_accept_rate)
        return float((self.same > threshold).mean())


def compare_by_gap(
    sightings: Sightings,
    *,
    number: int = 1,
    gaps: Sequence[tuple[int, int]] = GAPS,
    most_pairs: int = MOST_PAIRS,
) -> list[GapSimilarities]:
    """Similarities of sampled pairs, by the number of frames between them.

    Args:
        sightings: Sightings of one sequence.
        number: Sightings in a mean: 1 compares single ones, more compares means of that many clean
            ones that span less than `WITHIN` frames.
        gaps: Ranges of frames from the last sighting of one mean to the first of the other.
        most_pairs: Pairs of one person in each range; all of them if there are fewer.

    Raises:
        ValueError: If a number is not finite.
    """
    means = _means(sightings, number)
    vectors = _mean_vectors(sightings.embeddings, means.rows)
    random = np.random.default_rng(_SEED)
    stretch = int(means.end.max(initial=0)) + max(high for _, high in gaps) + 1
    base = means.person * stretch  # so that one person's frames are far from the next one's
    by_start = np.argsort(means.start, kind="stable")
    found = []
    for gap in gaps:
        same = _draw(base + means.start, base + means.end, gap, most_pairs, random)
        one, late = _draw(means.start[by_start], means.end, gap, _OTHERS * most_pairs, random)
        late = by_start[late]
        differs = means.person[one] != means.person[late]
        different = one[differs], late[differs]
        found.append(
            GapSimilarities(_similarities(vectors, *same), _similarities(vectors, *different))
        )
    return found


@dataclass(frozen=True)
class _Means:
    """Groups of sightings of one person, sorted by person and time.

    Attributes:
        rows: `(m, number)` rows of the sightings.
        person: `(m,)` number of the person, from 0.
        start: `(m,)` first frames.
        end: `(m,)` last frames.
    """

    rows: IntArray
    person: IntArray
    start: IntArray
    end: IntArray


def _means(sightings: Sightings, number: int) -> _Means:
    """Every group that begins at a sighting, with its members spread evenly over the span."""
    known = sightings.identities >= 0
    usable = np.flatnonzero(known & sightings.is_clean if number > 1 else known)
    order = np.lexsort((sightings.frames[usable], sightings.identities[usable]))
    rows = usable[order]
    person = np.unique(sightings.identities[rows], return_inverse=True)[1]
    frame = sightings.frames[rows]
    if number == 1:
        return _Means(rows[:, None], person, frame, frame)
    stretch = int(frame.max(initial=0)) + WITHIN + 1  # so that people do not meet in one key
    key = person * stretch + frame
    begin = np.arange(len(rows))
    last = np.searchsorted(key, key + WITHIN - 1, side="right") - 1
    kept = last - begin >= number - 1
    begin, last = begin[kept], last[kept]
    share = np.arange(number) / (number - 1)
    members = begin[:, None] + np.floor(share * (last - begin)[:, None] + 1e-9).astype(np.int64)
    return _Means(rows[members], person[begin], frame[begin], frame[members[:, -1]])


def _draw(
    starts: IntArray, ends: IntArray, gap: tuple[int, int], most: int, random: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Pairs whose second starts so many frames after the end of the first.

    Args:
        starts: `(m,)` ascending.
        ends: `(m,)` in any order.
        gap: Least and most frames from an end to a start.
        most: Pairs to draw without replacement; all if there are fewer.
        random: Source of the draw.

    Returns:
        `(p,)` indices into `ends` and into `starts`.
    """
    begin = np.searchsorted(starts, ends + gap[0], side="left")
    counts = np.searchsorted(starts, ends + gap[1], side="right") - begin
    total = int(counts.sum())
    if total > most:
        chosen = np.sort(random.choice(total, most, replace=False, shuffle=False))
    else:
        chosen = np.arange(total)
    until = np.cumsum(counts)
    first = np.searchsorted(until, chosen, side="right")
    return first, begin[first] + chosen - (until[first] - counts[first])


def _mean_vectors(vectors: FloatArray, rows: IntArray) -> FloatArray:
    """`(m, D)` float32 means of length 1 of the rows `(m, k)`, each first made as long as 1."""
    means: FloatArray = np.zeros((len(rows), vectors.shape[1]), np.float32)
    for start in range(0, len(rows), _BLOCK):
        own = rows[start : start + _BLOCK]
        unit = unit_rows(vectors[own.ravel()]).reshape(*own.shape, -1)
        means[start : start + _BLOCK] = unit_rows(unit.mean(axis=1))
    return means


def _similarities(vectors: FloatArray, a: IntArray, b: IntArray) -> FloatArray:
    """`(p,)` products of pairs of rows, block by block."""
    parts: list[FloatArray] = [np.zeros(0, np.float32)]
    for start in range(0, len(a), _BLOCK):
        block = slice(start, start + _BLOCK)
        parts.append(np.einsum("pd,pd->p", vectors[a[block]], vectors[b[block]]))
    return np.concatenate(parts)

"""Merging chains of pieces over a whole video: agglomeration, the surest pair first.

Two chains may be merged if nobody would be in two places at once. The evidence is summed over the
moments at which one chain would pass to the other, and the means of all that is known of both are
compared. After every merge the pairs of the new chain are judged anew.
"""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np

from jde_ray.models.structures import IntArray
from jde_ray.models.tracking.postprocessing.evidence import Evidence
from jde_ray.models.tracking.postprocessing.glimpses import unit

CANDIDATES = 32  # chains that each one is compared with in full, those that look most like it
_NEAR_S = 5.0  # seconds in which motion says something
_ROWS = 1024  # chains whose distances to all others are in memory at once

Chain = IntArray  # pieces in the order of time
_Meeting = tuple[list[tuple[int, int]], list[tuple[int, int]]]  # new contacts, contacts that end


def merge(evidence: Evidence, chains: list[Chain]) -> list[Chain]:
    """Merge chains as long as there is evidence for it.

    Args:
        evidence: Of the pieces, with embeddings.
        chains: `(k,)` pieces of each in the order of time; no two overlap within a chain.

    Returns:
        The merged chains; pieces in the order of time.
    """
    return _Agglomeration(evidence, chains).run()


class _Agglomeration:
    def __init__(self, evidence: Evidence, chains: list[Chain]) -> None:
        assert evidence.looks is not None  # noqa: S101
        self._evidence = evidence
        self._chains = dict(enumerate(chains))
        sums = evidence.looks.sums
        self._sums = {k: sums[chain].sum(axis=0) for k, chain in self._chains.items()}
        self._partners: dict[int, set[int]] = {k: set() for k in self._chains}
        self._current: dict[tuple[int, int], float] = {}
        self._heap: list[tuple[float, tuple[int, int]]] = []

    def run(self) -> list[Chain]:
        pairs = self._candidates()
        for a, b in pairs:
            self._partners[a].add(b)
            self._partners[b].add(a)
        self._judge(pairs)
        while self._heap:
            score, pair = heapq.heappop(self._heap)
            if self._current.get(pair) == -score:
                self._join(*pair)
        return [self._chains[k] for k in sorted(self._chains)]

    def _candidates(self) -> list[tuple[int, int]]:
        """Pairs that look alike, at most `CANDIDATES` for each chain, and pairs with short gaps."""
        means = unit(np.array([self._sums[k] for k in sorted(self._chains)]))
        found = set(self._close_in_time())
        for low in range(0, len(means), _ROWS):
            cosine = means[low : low + _ROWS] @ means.T
            cosine[np.arange(len(cosine)), low + np.arange(len(cosine))] = -2
            nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :CANDIDATES]
            for row, others in enumerate(nearest.tolist(), start=low):
                found |= {(min(row, k), max(row, k)) for k in others if k != row}
        return sorted(found)

    def _close_in_time(self) -> list[tuple[int, int]]:
        ordered = [self._chains[k] for k in sorted(self._chains)]
        starts = self._evidence.first[[chain[0] for chain in ordered]]
        ends = self._evidence.last[[chain[-1] for chain in ordered]]
        by_start = np.argsort(starts, kind="stable")
        low = np.searchsorted(starts[by_start], ends, "right")
        high = np.searchsorted(starts[by_start], ends + _NEAR_S * self._evidence.rate, "right")
        return [
            (min(k, other), max(k, other))
            for k in range(len(ordered))
            for other in by_start[low[k] : min(high[k], low[k] + CANDIDATES)].tolist()
        ]

    def _judge(self, pairs: list[tuple[int, int]]) -> None:
        """Score pairs of chains; those with evidence for one person go into the heap."""
        for pair in pairs:
            self._current.pop(pair, None)
        meetings = [(pair, self._meet(*pair)) for pair in pairs]
        valid = [(pair, meeting) for pair, meeting in meetings if meeting is not None]
        if not valid:
            return
        contacts = [(a, b) for _, (new, old) in valid for a, b in new + old]
        scores = iter(self._evidence.contact(*np.array(contacts, np.int64).T).tolist())
        totals = np.array(
            [
                sum(next(scores) for _ in new) - sum(next(scores) for _ in old)
                for _, (new, old) in valid
            ]
        )
        nearest = np.array([self._nearest(new) for _, (new, _) in valid], np.int64)
        both = [np.array([self._sums[pair[side]] for pair, _ in valid]) for side in (0, 1)]
        totals += self._evidence.appearance(nearest[:, 0], nearest[:, 1], (both[0], both[1]))
        for (pair, _), total in zip(valid, totals.tolist(), strict=True):
            if total > 0:
                self._current[pair] = total
                heapq.heappush(self._heap, (-total, pair))

    def _meet(self, a: int, b: int) -> _Meeting | None:
        """Contacts between two chains, and the contacts within each that those replace.

        None if both are somewhere at once.
        """
        one, two = self._chains[a], self._chains[b]
        first, last = self._evidence.first, self._evidence.last
        if last[one[-1]] < first[two[0]]:
            return [(int(one[-1]), int(two[0]))], []
        if last[two[-1]] < first[one[0]]:
            return [(int(two[-1]), int(one[0]))], []
        pieces = np.concatenate([one, two])
        order = np.argsort(first[pieces], kind="stable")
        pieces, side = pieces[order], (order >= len(one))
        if (first[pieces[1:]] <= last[pieces[:-1]]).any():
            return None
        changes = np.flatnonzero(side[1:] != side[:-1])
        new = [(int(pieces[k]), int(pieces[k + 1])) for k in changes]
        old = []
        for left, right in pairwise(changes):
            # between two changes lies a stretch of one side, within a gap of the other
            old.append((int(pieces[left]), int(pieces[right + 1])))
        return new, old

    def _nearest(self, contacts: list[tuple[int, int]]) -> tuple[int, int]:
        first, last = self._evidence.first, self._evidence.last
        return min(contacts, key=lambda pair: (first[pair[1]] - last[pair[0]], pair))

    def _join(self, a: int, b: int) -> None:
        """Chain `b` becomes part of `a`."""
        pieces = np.concatenate([self._chains[a], self._chains.pop(b)])
        self._chains[a] = pieces[np.argsort(self._evidence.first[pieces], kind="stable")]
        self._sums[a] = self._sums[a] + self._sums.pop(b)
        partners = (self._partners[a] | self._partners.pop(b)) - {a, b}
        self._partners[a] = partners
        self._current.pop((a, b), None)
        for other in partners:
            self._partners[other].discard(b)
            self._partners[other].add(a)
            self._current.pop((min(b, other), max(b, other)), None)
        self._judge([(min(a, other), max(a, other)) for other in sorted(partners)])

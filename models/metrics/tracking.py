"""All tracking scores of a sequence: CLEAR, identity and HOTA, after the distractor rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from jde_ray.models.metrics.clear import ClearCounts, clear_counts
from jde_ray.models.metrics.distractors import without_distractors
from jde_ray.models.metrics.hota import HotaCounts, hota_counts
from jde_ray.models.metrics.identity import IdentityCounts, identity_counts
from jde_ray.models.metrics.rows import BoxRows, check_unique
from jde_ray.models.structures import FloatArray

OVERALL = "OVERALL"
# official names in the order of the table: ratios, shown in percent, then counts
RATIOS = (
    "HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR", "Prcn", "Rcll",
)  # fmt: skip
COUNTS = ("IDs", "FP", "FN", "MT", "PT", "ML", "Frag")
_LESS_IS_BETTER = frozenset({"IDs", "FP", "FN", "ML", "Frag"})
_NO_BEST = frozenset({"PT"})  # partly tracked people may come from either side


@dataclass(frozen=True)
class SequenceScores:
    """Scores of one sequence; several add up with `+`, and their identities stay distinct."""

    clear: ClearCounts = field(default_factory=ClearCounts)
    identity: IdentityCounts = field(default_factory=IdentityCounts)
    hota: HotaCounts = field(default_factory=HotaCounts.zero)

    def __add__(self, other: SequenceScores) -> SequenceScores:
        return SequenceScores(
            self.clear + other.clear, self.identity + other.identity, self.hota + other.hota
        )

    def figures(self) -> dict[str, float]:
        """Figures by their official names, `RATIOS` in percent, then `COUNTS`.

        All equal TrackEval's to the digit. Ratios are NaN where there is no truth at all.
        """
        clear, identity, hota = self.clear, self.identity, self.hota
        ratios = (
            hota.hota, hota.detection_accuracy, hota.association_accuracy,
            hota.localisation_accuracy, clear.mota, clear.motp, identity.idf1, identity.idp,
            identity.idr, clear.precision, clear.recall,
        )  # fmt: skip
        counts = (
            clear.num_switches, clear.num_false_positives, clear.num_misses,
            clear.mostly_tracked, clear.partly_tracked, clear.mostly_lost,
            clear.num_fragmentations,
        )  # fmt: skip
        scale = 100.0 if clear.num_boxes else float("nan")
        named: dict[str, float] = {
            name: scale * value for name, value in zip(RATIOS, ratios, strict=True)
        }
        return named | dict(zip(COUNTS, counts, strict=True))

    def counts(self) -> FloatArray:
        """All counts as one vector, so that those of many sequences are added up at once."""
        groups = (getattr(self, group.name) for group in fields(self))
        values = (getattr(group, one.name) for group in groups for one in fields(group))
        return np.concatenate([np.atleast_1d(np.asarray(value, np.float64)) for value in values])

    @staticmethod
    def of(counts: FloatArray) -> SequenceScores:
        """Scores whose `counts()` are these."""
        zero, first, groups = SequenceScores(), 0, []
        for group in (getattr(zero, one.name) for one in fields(zero)):
            values: list[Any] = []
            for like in (getattr(group, one.name) for one in fields(group)):
                part = counts[first : first + np.size(like)]
                first += np.size(like)
                if isinstance(like, int):
                    values.append(round(part[0]))
                else:
                    values.append(part if np.ndim(like) else float(part[0]))
            groups.append(type(group)(*values))
        return SequenceScores(*groups)


def score_sequence(
    truth: BoxRows,
    tracks: BoxRows,
    ignore: BoxRows | None = None,
    other: BoxRows | None = None,
) -> SequenceScores:
    """Compare the tracks of a sequence with its truth.

    Args:
        truth: People to be found.
        tracks: People found.
        ignore: Distractors, which may be tracked or not (see `without_distractors`).
        other: Annotated boxes that are neither people to be found nor distractors.

    Raises:
        ValueError: If an id has two boxes in one frame.
    """
    check_unique("truth", truth)
    check_unique("tracks", tracks)
    if ignore is not None and len(ignore):
        tracks = without_distractors(truth, tracks, ignore, other or BoxRows.empty())
    return SequenceScores(
        clear_counts(truth, tracks), identity_counts(truth, tracks), hota_counts(truth, tracks)
    )


def summarize(scores: Mapping[str, SequenceScores]) -> dict[str, SequenceScores]:
    """Scores by sequence in the given order, followed by `OVERALL` for all of them together."""
    if not scores:
        return {}
    return {**scores, OVERALL: sum(scores.values(), SequenceScores())}


def best_results(figures: Mapping[str, Mapping[str, float]], name: str) -> frozenset[str]:
    """The results that are best in a figure, to a tenth, as tables show it.

    Args:
        figures: Figures by result.
        name: One of `RATIOS` and `COUNTS`.

    Returns:
        Several if they are equally good; none if all are, or if the figure has no better side.
    """
    shown = {
        result: round(own[name], 1) for result, own in figures.items() if not math.isnan(own[name])
    }
    if name in _NO_BEST or len(set(shown.values())) < 2:
        return frozenset()
    best = (min if name in _LESS_IS_BETTER else max)(shown.values())
    return frozenset(result for result, value in shown.items() if value == best)

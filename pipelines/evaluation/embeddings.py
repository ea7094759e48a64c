"""Scores embeddings of known people: TPR at given false accept rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.metrics.embedding import EmbeddingScores, score_embeddings
from jde_ray.models.metrics.embedding_gaps import (
    FALSE_ACCEPT_RATES,
    FIVE,
    GAPS,
    GapSimilarities,
    Sightings,
    compare_by_gap,
)
from jde_ray.models.metrics.matching import match_rows
from jde_ray.models.metrics.switches import overlap_with_others
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.evaluation.detections import OVERALL, truth_of
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detection_rows import read_detections
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.report.tables import FigureTable

CLEAN_OVERLAP, CLEAN_VISIBILITY = 0.2, 0.5  # most IoU with another person, least visibility
SIGHTINGS = {"one": 1, "five": FIVE}  # sightings in a mean, by their name in the table


@dataclass(frozen=True)
class KnownEmbeddings:
    """Embeddings of people.

    Attributes:
        embeddings: `(n, D)` float16.
        identities: `(n,)` ids in the ground truth.
        frames: `(n,)` frames from 0; None if unknown, so that nothing is compared by gap.
        is_clean: `(n,)` whether the person was well visible (`clean_sightings`), likewise.
    """

    embeddings: FloatArray
    identities: IntArray
    frames: IntArray | None = None
    is_clean: NDArray[np.bool_] | None = None


def collect_embeddings(pairing: Pairing, rules: TruthRules = TruthRules()) -> KnownEmbeddings:
    """Embeddings of the detections that match a person, with the person's id.

    Raises:
        ValueError: If a file cannot be read or has no embeddings, in one line.
    """
    truth = read_truth(truth_of(pairing), rules)
    found = read_detections(pairing.predictions)
    if found.embeddings is None:
        raise ValueError(
            f"{pairing.predictions}: no embeddings, expected files of detections/ of a run whose"
            " network gives them"
        )
    people, boxes = match_rows(truth.people, found.rows)
    return KnownEmbeddings(
        found.embeddings[boxes],
        truth.people.track_id[people],
        truth.people.frame[people],
        clean_sightings(truth)[people],
    )


def clean_sightings(truth: GroundTruth) -> NDArray[np.bool_]:
    """`(n,)` whether each row of `truth.people` shows its person and hardly anybody else.

    The person overlaps every other by an IoU of at most .2, and is visible by at least half where
    the ground truth says so.
    """
    clean: NDArray[np.bool_] = overlap_with_others(truth.people) <= CLEAN_OVERLAP
    return clean & (truth.visibility >= CLEAN_VISIBILITY)


def embedding_scores(known: Mapping[str, KnownEmbeddings]) -> dict[str, EmbeddingScores]:
    """TPR at FAR by sequence, and `OVERALL`, which also compares people of different sequences.

    Raises:
        ValueError: If embeddings of two sequences differ in width.
    """
    widths = {one.embeddings.shape[1] for one in known.values() if len(one.embeddings)}
    if len(widths) > 1:
        raise ValueError(f"embeddings: got widths {sorted(widths)}, expected one")
    scores, offset, identities = {}, 0, []
    for name, one in known.items():
        scores[name] = score_embeddings(one.embeddings, one.identities)
        _, own = np.unique(one.identities, return_inverse=True)
        identities.append(own + offset)
        offset += int(own.max(initial=-1)) + 1
    filled = [one.embeddings for one in known.values() if len(one.embeddings)]
    vectors = np.concatenate(filled) if filled else np.zeros((0, 0), np.float16)
    scores[OVERALL] = score_embeddings(
        vectors, np.concatenate([np.zeros(0, np.int64), *identities])
    )
    return scores


def gap_table(known: Mapping[str, KnownEmbeddings]) -> FigureTable | None:
    """How well embeddings tell people apart by the time between two sightings.

    `OVERALL` takes the sampled pairs of all sequences together, each of people of one sequence.

    Returns:
        None if the frames of a sequence are unknown.
    """
    figures: dict[str, dict[str, dict[str, float]]] = {}
    whole: dict[str, GapSimilarities] = {}
    for name, one in known.items():
        if one.frames is None or one.is_clean is None:
            return None
        sightings = Sightings(one.embeddings, one.identities, one.frames, one.is_clean)
        own: dict[str, GapSimilarities] = {}
        for word, number in SIGHTINGS.items():
            found = compare_by_gap(sightings, number=number)
            own |= {f"{word}, {a}-{b}": pairs for (a, b), pairs in zip(GAPS, found, strict=True)}
        figures[name] = {line: _gap_figures(pairs) for line, pairs in own.items()}
        whole = {line: whole[line] + pairs if whole else pairs for line, pairs in own.items()}
    figures[OVERALL] = {line: _gap_figures(pairs) for line, pairs in whole.items()}
    return FigureTable(
        "by_gap",
        "By the frames between two sightings",
        "sightings, frames",
        figures,
        "One sighting against one, or the mean of five clean ones within 20 frames against another "
        "such mean. TPR: share of the pairs of one person above the threshold that this share of "
        "the pairs of different people exceeds; pairs: those of one person that were compared.",
    )


def _gap_figures(pairs: GapSimilarities) -> dict[str, float]:
    rates = {
        f"TPR@{rate:.0e}".replace("e-0", "e-"): 100 * pairs.accepted(rate)
        for rate in FALSE_ACCEPT_RATES
    }
    return {"AUC": 100 * pairs.area, **rates, "pairs": len(pairs.same)}

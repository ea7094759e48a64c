"""Scores embeddings of known people: TPR at given false accept rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.distractors import IOU_THRESHOLD
from jde_ray.models.metrics.embedding import EmbeddingScores, score_embeddings
from jde_ray.models.metrics.rows import by_frame
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.evaluation.detections import OVERALL, truth_of
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detections import read_detections


@dataclass(frozen=True)
class KnownEmbeddings:
    """`(n, D)` float16 embeddings of people, and their `(n,)` ground-truth ids."""

    embeddings: FloatArray
    identities: IntArray


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
    taken, identities = [], []
    for _, (i, j) in by_frame(truth.people, found.rows):
        iou = iou_matrix(truth.people.tlbr[i], found.rows.tlbr[j])
        iou[iou < IOU_THRESHOLD] = 0
        rows, columns = linear_sum_assignment(-iou)
        matched = iou[rows, columns] > 0
        taken.append(j[columns[matched]])
        identities.append(truth.people.track_id[i[rows[matched]]])
    nothing = np.zeros(0, np.int64)
    return KnownEmbeddings(
        found.embeddings[np.concatenate([nothing, *taken])],
        np.concatenate([nothing, *identities]),
    )


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

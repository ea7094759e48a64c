"""HOTA, the geometric mean of detection and association accuracy (Luiten et al., IJCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from models.boxes import iou_matrix
from models.metrics.rows import BoxRows, by_frame, check_unique
from models.structures import FloatArray

ALPHAS = np.arange(0.05, 0.99, 0.05)  # thresholds of IoU: .05 to .95
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class HotaCounts:
    """What HOTA is made of; every array is `(19,)`, one value a threshold.

    Attributes:
        true_positives: Matched boxes.
        false_negatives: Boxes of the truth without a match.
        false_positives: Boxes of tracks without a match.
        association: Sum over matched boxes of their association accuracy.
        localisation: Sum over matched boxes of their IoU.
    """

    true_positives: FloatArray
    false_negatives: FloatArray
    false_positives: FloatArray
    association: FloatArray
    localisation: FloatArray

    @property
    def detection_accuracy(self) -> float:
        """DetA in [0, 1]."""
        total = self.true_positives + self.false_negatives + self.false_positives
        return float(np.mean(self.true_positives / np.maximum(total, 1)))

    @property
    def association_accuracy(self) -> float:
        """AssA in [0, 1]."""
        return float(np.mean(self.association / np.maximum(self.true_positives, 1)))

    @property
    def localisation_accuracy(self) -> float:
        """LocA in [0, 1]; 1 where nothing is matched."""
        found = np.maximum(self.true_positives, 1e-10)
        return float(np.mean(np.maximum(self.localisation, 1e-10) / found))

    @property
    def hota(self) -> float:
        """HOTA in [0, 1]."""
        total = self.true_positives + self.false_negatives + self.false_positives
        detection = self.true_positives / np.maximum(total, 1)
        association = self.association / np.maximum(self.true_positives, 1)
        return float(np.mean(np.sqrt(detection * association)))


def hota_counts(truth: BoxRows, tracks: BoxRows) -> HotaCounts:
    """Compare the tracks of a sequence with its truth.

    Args:
        truth: People to be found.
        tracks: People found, without those on distractors (`tracking.without_distractors`).

    Raises:
        ValueError: If an id has two boxes in one frame.
    """
    check_unique("truth", truth)
    check_unique("tracks", tracks)
    truth_ids, truth_number = np.unique(truth.track_id, return_inverse=True)
    track_ids, track_number = np.unique(tracks.track_id, return_inverse=True)
    shape = (len(truth_ids), len(track_ids))
    frames = []
    potential = np.zeros(shape)
    for _, (i, j) in by_frame(truth, tracks):
        if not len(i) or not len(j):
            continue
        iou = iou_matrix(truth.tlbr[i], tracks.tlbr[j])
        union = iou.sum(axis=0)[None, :] + iou.sum(axis=1)[:, None] - iou
        pairs = np.ix_(truth_number[i], track_number[j])
        potential[pairs] += np.divide(iou, union, out=np.zeros_like(iou), where=union > _EPSILON)
        frames.append((pairs, iou))
    boxes_truth = np.bincount(truth_number, minlength=shape[0])[:, None]
    boxes_tracks = np.bincount(track_number, minlength=shape[1])[None, :]
    # how well two identities agree over the sequence decides whom a box is matched to
    alignment = potential / np.maximum(boxes_truth + boxes_tracks - potential, _EPSILON)
    matches, localisation = np.zeros((len(ALPHAS), *shape)), np.zeros(len(ALPHAS))
    for pairs, iou in frames:
        rows, columns = linear_sum_assignment(-(alignment[pairs] * iou))
        overlap, own = iou[rows, columns], pairs[0][rows, 0]
        theirs = pairs[1][0, columns]
        for k, alpha in enumerate(ALPHAS):
            enough = overlap >= alpha - _EPSILON
            matches[k, own[enough], theirs[enough]] += 1
            localisation[k] += overlap[enough].sum()
    found = matches.sum(axis=(1, 2))
    jaccard = matches / np.maximum(1, boxes_truth + boxes_tracks - matches)
    return HotaCounts(
        true_positives=found,
        false_negatives=len(truth) - found,
        false_positives=len(tracks) - found,
        association=(matches * jaccard).sum(axis=(1, 2)),
        localisation=localisation,
    )


def add_counts(counts: Sequence[HotaCounts]) -> HotaCounts:
    """Counts of several sequences as one; identities are the sequences' own."""
    zero = np.zeros(len(ALPHAS))
    return HotaCounts(
        true_positives=sum((c.true_positives for c in counts), zero),
        false_negatives=sum((c.false_negatives for c in counts), zero),
        false_positives=sum((c.false_positives for c in counts), zero),
        association=sum((c.association for c in counts), zero),
        localisation=sum((c.localisation for c in counts), zero),
    )

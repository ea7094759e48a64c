"""HOTA, the geometric mean of detection and association accuracy (Luiten et al., IJCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.rows import BoxRows, by_frame, check_unique
from jde_ray.models.structures import FloatArray, IntArray

ALPHAS = np.arange(0.05, 0.99, 0.05)  # IoU thresholds .05 to .95
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class HotaCounts:
    """Counts that HOTA is computed from; arrays are `(19,)`, one value per threshold (`ALPHAS`).

    Counts of sequences add up with `+`; identities of different sequences stay distinct.

    Attributes:
        true_positives: Matched boxes.
        false_negatives: True boxes without a match.
        false_positives: Boxes of tracks without a match.
        association: Sum over matched boxes of their association accuracy.
        localisation: Sum over matched boxes of their IoU.
    """

    true_positives: FloatArray
    false_negatives: FloatArray
    false_positives: FloatArray
    association: FloatArray
    localisation: FloatArray

    def __add__(self, other: HotaCounts) -> HotaCounts:
        return HotaCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @staticmethod
    def zero() -> HotaCounts:
        """Counts of no sequence."""
        return HotaCounts(*(np.zeros(len(ALPHAS)) for _ in fields(HotaCounts)))

    @property
    def detection_curve(self) -> FloatArray:
        """`(19,)` DetA at each threshold, in [0, 1]."""
        total = self.true_positives + self.false_negatives + self.false_positives
        curve: FloatArray = self.true_positives / np.maximum(total, 1)
        return curve

    @property
    def association_curve(self) -> FloatArray:
        """`(19,)` AssA at each threshold, in [0, 1]."""
        curve: FloatArray = self.association / np.maximum(self.true_positives, 1)
        return curve

    @property
    def hota_curve(self) -> FloatArray:
        """`(19,)` HOTA at each threshold, in [0, 1]."""
        curve: FloatArray = np.sqrt(self.detection_curve * self.association_curve)
        return curve

    @property
    def detection_accuracy(self) -> float:
        """DetA in [0, 1]."""
        return float(np.mean(self.detection_curve))

    @property
    def association_accuracy(self) -> float:
        """AssA in [0, 1]."""
        return float(np.mean(self.association_curve))

    @property
    def localisation_accuracy(self) -> float:
        """LocA in [0, 1]; 1 where nothing is matched."""
        found = np.maximum(self.true_positives, 1e-10)
        return float(np.mean(np.maximum(self.localisation, 1e-10) / found))

    @property
    def hota(self) -> float:
        """HOTA in [0, 1]."""
        return float(np.mean(self.hota_curve))


def hota_counts(truth: BoxRows, tracks: BoxRows) -> HotaCounts:
    """Compare the tracks of a sequence with its truth.

    Args:
        truth: People to be found.
        tracks: People found, without those on distractors (`without_distractors`).

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
    # identities that agree better over the sequence are preferred in the matching
    alignment = potential / np.maximum(boxes_truth + boxes_tracks - potential, _EPSILON)
    found, theirs, overlap = _assign(frames, alignment)
    pair = found * shape[1] + theirs
    pairs_found, number = np.unique(pair, return_inverse=True)
    boxes = (boxes_truth + boxes_tracks).ravel()[pairs_found]
    counts = np.zeros((5, len(ALPHAS)))
    for k, alpha in enumerate(ALPHAS):
        enough = overlap >= alpha - _EPSILON
        matches = np.bincount(number[enough], minlength=len(pairs_found))
        jaccard = matches / np.maximum(1, boxes - matches)
        hits = matches.sum()
        counts[:, k] = (
            hits, len(truth) - hits, len(tracks) - hits,
            (matches * jaccard).sum(), overlap[enough].sum(),
        )  # fmt: skip
    return HotaCounts(*counts)


def _assign(
    frames: Sequence[tuple[tuple[IntArray, ...], FloatArray]], alignment: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Person, track and IoU of every pair matched in any frame, without an IoU threshold."""
    people, tracks, overlaps = [], [], []
    for pairs, iou in frames:
        rows, columns = linear_sum_assignment(-(alignment[pairs] * iou))
        people.append(pairs[0][rows, 0])
        tracks.append(pairs[1][0, columns])
        overlaps.append(iou[rows, columns])
    nothing = np.zeros(0, np.int64)
    return (
        np.concatenate([nothing, *people]),
        np.concatenate([nothing, *tracks]),
        np.concatenate([np.zeros(0), *overlaps]),
    )

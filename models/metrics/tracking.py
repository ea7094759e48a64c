"""CLEAR MOT and identity scores of a sequence, by motmetrics, with the MOT16/17 rule before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import motmetrics
import numpy as np
from scipy.optimize import linear_sum_assignment

from models.boxes import iou_matrix
from models.metrics.rows import BoxRows, by_frame, check_unique
from models.structures import IntArray

IOU_THRESHOLD = 0.5
_EPSILON = float(np.finfo(float).eps)
_COLUMNS = {
    "mota": "mota",
    "idf1": "idf1",
    "idp": "idp",
    "idr": "idr",
    "num_switches": "num_switches",
    "num_false_positives": "num_false_positives",
    "num_misses": "num_misses",
    "mostly_tracked": "mostly_tracked",
    "mostly_lost": "mostly_lost",
    "precision": "precision",
    "recall": "recall",
    "num_frames": "num_frames",
    "num_objects": "num_boxes",
    "num_unique_objects": "num_ids",
}


@dataclass(frozen=True)
class TrackingScores:
    """Scores of one sequence or of several together; ratios are in [0, 1] (MOTA may be negative).

    A ratio without a denominator (no truth, no tracks) is NaN.
    """

    mota: float
    idf1: float
    idp: float
    idr: float
    num_switches: int
    num_false_positives: int
    num_misses: int
    mostly_tracked: int
    mostly_lost: int
    precision: float
    recall: float
    num_frames: int
    num_boxes: int
    num_ids: int


def score_sequence(
    truth: BoxRows,
    tracks: BoxRows,
    ignore: BoxRows | None = None,
    other: BoxRows | None = None,
) -> Any:
    """Compare the tracks of a sequence with its truth, frame by frame.

    Args:
        truth: People to be found.
        tracks: People found.
        ignore: Distractors of the MOT16/17 rule (see `without_distractors`).
        other: Annotated boxes that are neither.

    Returns:
        A `motmetrics.MOTAccumulator`, for `summarize`. Its frames are those with any row of
        `truth` or `tracks`.

    Raises:
        ValueError: If an id has two boxes in one frame.
    """
    check_unique("truth", truth)
    check_unique("tracks", tracks)
    if ignore is not None and len(ignore):
        tracks = without_distractors(truth, tracks, ignore, other or BoxRows.empty())
    accumulator = motmetrics.MOTAccumulator(auto_id=False)
    for frame, (of_truth, of_tracks) in by_frame(truth, tracks):
        distance = 1.0 - iou_matrix(truth.tlbr[of_truth], tracks.tlbr[of_tracks])
        distance[distance > 1 - IOU_THRESHOLD + _EPSILON] = np.nan
        accumulator.update(
            truth.track_id[of_truth], tracks.track_id[of_tracks], distance, frameid=frame
        )
    return accumulator


def without_distractors(
    truth: BoxRows, tracks: BoxRows, ignore: BoxRows, other: BoxRows
) -> BoxRows:
    """The rule of MOT16/17: who follows a distractor is neither right nor wrong.

    In each frame the tracks are matched to all annotated boxes together (greatest sum of IoU,
    each at least .5); tracks matched to a distractor are left out.

    Args:
        truth: People to be found.
        tracks: People found.
        ignore: Distractors: people on vehicles, standing images, reflections and the like.
        other: Annotated boxes that are neither; they only take part in the matching.

    Returns:
        The remaining rows of `tracks`.
    """
    annotated = BoxRows.concatenate([truth, ignore, other])
    is_distractor = np.zeros(len(annotated), bool)
    is_distractor[len(truth) : len(truth) + len(ignore)] = True
    keep = np.ones(len(tracks), bool)
    for _, (of_annotated, of_tracks) in by_frame(annotated, tracks):
        if not is_distractor[of_annotated].any() or not len(of_tracks):
            continue
        rows, columns = _match(annotated, of_annotated, tracks, of_tracks)
        keep[of_tracks[columns[is_distractor[of_annotated[rows]]]]] = False
    return tracks[keep]


def _match(
    annotated: BoxRows, of_annotated: IntArray, tracks: BoxRows, of_tracks: IntArray
) -> tuple[IntArray, IntArray]:
    iou = iou_matrix(annotated.tlbr[of_annotated], tracks.tlbr[of_tracks])
    iou[iou < IOU_THRESHOLD - _EPSILON] = 0
    rows, columns = linear_sum_assignment(-iou)
    matched = iou[rows, columns] > 0
    return rows[matched], columns[matched]


def summarize(accumulators: Mapping[str, Any]) -> dict[str, TrackingScores]:
    """Scores by sequence, and `OVERALL` over all of them as one.

    Args:
        accumulators: Of `score_sequence`, by the name of the sequence.

    Returns:
        Scores by name, in the order given, `OVERALL` last.
    """
    if not accumulators:
        return {}
    host = motmetrics.metrics.create()
    names = list(accumulators)
    table = host.compute_many(
        [accumulators[name] for name in names],
        metrics=list(_COLUMNS),
        names=names,
        generate_overall=True,
    )
    result = {}
    for name in [*names, "OVERALL"]:
        values: dict[str, Any] = {}
        for column, attribute in _COLUMNS.items():
            value = table.loc[name, column]
            is_ratio = TrackingScores.__annotations__[attribute] == "float"
            values[attribute] = _ratio(value) if is_ratio else int(value)
        result[name] = TrackingScores(**values)
    return result


def _ratio(value: float) -> float:
    """NaN instead of minus infinity, which motmetrics gives where there is no truth."""
    return float(value) if np.isfinite(value) else float("nan")

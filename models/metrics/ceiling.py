"""How good ids could be at the boxes that are reported: the ceiling of association.

A reported box that matches a person (IoU of at least .5, largest sum in the frame) takes the
person's true id; the other boxes keep ids of their own. The result is scored like any other. What
is missing above it is missing boxes, which no association can add.

Ids that are perfect until a person is lost for a while, and new afterwards, show what gaps of each
length cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jde_ray.models.metrics.distractors import without_distractors
from jde_ray.models.metrics.matching import match_rows
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.models.structures import IntArray

GAPS = (60, 10, 1)  # frames; longer ones break the ids of a line in the table
AS_REPORTED, TRUE_IDS = "as reported", "true ids"


def score_ceiling(
    truth: BoxRows,
    tracks: BoxRows,
    ignore: BoxRows | None = None,
    other: BoxRows | None = None,
    *,
    gaps: Sequence[int] = GAPS,
    stride: int = 1,
) -> dict[str, SequenceScores]:
    """Scores of the reported ids and of perfect ones at the same boxes.

    Args:
        truth: People to be found.
        tracks: People found.
        ignore: Distractors, as for `score_sequence`.
        other: Other annotated boxes, as for `score_sequence`.
        gaps: Lengths of gaps in processed frames.
        stride: Every n-th frame was processed.

    Returns:
        Scores by kind of ids: `AS_REPORTED`, `TRUE_IDS`, and the true ids that break at gaps
        (`broken_ids`).

    Raises:
        ValueError: If an id has two boxes in one frame.
    """
    reported = score_sequence(truth, tracks, ignore, other)
    if ignore is not None and len(ignore):
        tracks = without_distractors(truth, tracks, ignore, other or BoxRows.empty())
    matches = match_rows(truth, tracks)
    scores = {AS_REPORTED: reported}
    for name, gap in [(TRUE_IDS, None), *((broken_ids(gap), gap) for gap in gaps)]:
        scores[name] = score_sequence(
            truth, with_true_ids(truth, tracks, matches, most_gap=gap, stride=stride)
        )
    return scores


def broken_ids(gap: int) -> str:
    """Name of the true ids that are new after gaps of more than `gap` frames."""
    return f"new after > {gap} frame{'s' if gap > 1 else ''}"


def with_true_ids(
    truth: BoxRows,
    tracks: BoxRows,
    matches: tuple[IntArray, IntArray] | None = None,
    *,
    most_gap: int | None = None,
    stride: int = 1,
) -> BoxRows:
    """The same boxes with the ids of the people that they match.

    Args:
        truth: People to be found.
        tracks: People found, without those on distractors.
        matches: Result of `match_rows(truth, tracks)`; None to compute it.
        most_gap: A person gets a new id after more than this many processed frames since the last
            match; None for never.
        stride: Every n-th frame was processed.

    Returns:
        The rows of `tracks` in their order. Boxes that match nobody keep ids of their own, which
        no person has.
    """
    people, boxes = match_rows(truth, tracks) if matches is None else matches
    order = np.lexsort((truth.frame[people], truth.track_id[people]))
    people, boxes = people[order], boxes[order]
    person, frame = truth.track_id[people], truth.frame[people]
    is_new = np.ones(len(people), bool)
    is_new[1:] = person[1:] != person[:-1]
    if most_gap is not None:
        is_new[1:] |= np.diff(frame) > most_gap * stride
    ids = np.unique(tracks.track_id, return_inverse=True)[1] + len(people)
    ids[boxes] = np.cumsum(is_new) - 1
    return BoxRows(tracks.frame, ids.astype(np.int64), tracks.tlbr)

"""The rule of MOT16, 17 and 20: a track on a distractor is neither right nor wrong."""

from __future__ import annotations

import numpy as np

from jde_ray.models.metrics.matching import match_boxes
from jde_ray.models.metrics.rows import BoxRows, by_frame
from jde_ray.models.structures import IntArray


def without_distractors(
    truth: BoxRows, tracks: BoxRows, ignore: BoxRows, other: BoxRows
) -> BoxRows:
    """Leave out the tracks that follow a distractor.

    In each frame the tracks are matched to all annotated boxes together (largest sum of IoU,
    each at least .5); tracks matched to a distractor are left out.

    Args:
        truth: People to be found.
        tracks: People found.
        ignore: Distractors: people on vehicles, standing images, reflections and the like.
        other: Other annotated boxes; they only take part in the matching.

    Returns:
        The remaining rows of `tracks`.
    """
    return tracks[~on_distractor(truth, tracks, ignore, other)]


def on_distractor(truth: BoxRows, tracks: BoxRows, ignore: BoxRows, other: BoxRows) -> IntArray:
    """`(n,)` bool, true for rows of `tracks` that `without_distractors` leaves out."""
    annotated = BoxRows.concatenate([truth, ignore, other])
    is_distractor = np.zeros(len(annotated), bool)
    is_distractor[len(truth) : len(truth) + len(ignore)] = True
    gone = np.zeros(len(tracks), bool)
    if not len(ignore):
        return gone
    for _, (of_annotated, of_tracks) in by_frame(annotated, tracks):
        if not is_distractor[of_annotated].any() or not len(of_tracks):
            continue
        rows, columns = match_boxes(annotated.tlbr[of_annotated], tracks.tlbr[of_tracks])
        gone[of_tracks[columns[is_distractor[of_annotated[rows]]]]] = True
    return gone

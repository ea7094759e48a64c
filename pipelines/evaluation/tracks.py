"""Scores tracks against ground truth, one task per sequence."""

from __future__ import annotations

from collections.abc import Sequence

from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen, frames_seen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.tracks import read_tracks


def score_pairing(
    pairing: Pairing, rules: TruthRules = TruthRules(), others: Sequence[FramesSeen] = ()
) -> SequenceScores:
    """Scores of one sequence that has ground truth, in the frames that its run processed.

    Args:
        pairing: Tracks and ground truth.
        rules: Rules for reading ground truth.
        others: Frames that other runs processed; the tracks are limited to these, too.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    if pairing.truth is None:
        raise ValueError(f"gt: no ground truth of {pairing.name}")
    truth = read_truth(pairing.truth, rules)
    seen = frames_seen(pairing.predictions)
    truth = truth if seen is None else seen.truth(truth)
    tracks = read_tracks(pairing.predictions)
    for frames in others:
        truth, tracks = frames.truth(truth), frames.rows(tracks)
    return score_sequence(truth.people, tracks, truth.ignore, truth.other)

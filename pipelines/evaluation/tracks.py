"""Scores tracks against ground truth, one task per sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen, frames_seen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.formats.tracks import read_tracks


@dataclass(frozen=True)
class SequenceRows:
    """Ground truth and tracks of a sequence, in the frames that its run processed.

    Attributes:
        truth: Ground truth.
        tracks: Reported boxes, those on distractors too.
        stride: Every n-th frame was processed.
    """

    truth: GroundTruth
    tracks: BoxRows
    stride: int = 1


def read_pairing(
    pairing: Pairing, rules: TruthRules = TruthRules(), others: Sequence[FramesSeen] = ()
) -> SequenceRows:
    """Read one sequence that has ground truth.

    Args:
        pairing: Tracks and ground truth.
        rules: Rules for reading ground truth.
        others: Frames that other runs processed; the rows are limited to these, too.

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
    return SequenceRows(truth, tracks, 1 if seen is None else seen.stride)


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
    rows = read_pairing(pairing, rules, others)
    return score_sequence(rows.truth.people, rows.tracks, rows.truth.ignore, rows.truth.other)

"""Tracks against ground truth, a sequence a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.pipelines.evaluation.frames_seen import frames_seen
from jde_ray.pipelines.formats.track_files import Pairing, TruthRules, read_tracks, read_truth
from jde_ray.pipelines.parallel import for_each

Result = TypeVar("Result")


def score_pairing(pairing: Pairing, rules: TruthRules = TruthRules()) -> SequenceScores:
    """Scores of one sequence that has ground truth, in the frames that its run looked at.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    if pairing.truth is None:
        raise ValueError(f"gt: no ground truth of {pairing.name}")
    truth = read_truth(pairing.truth, rules)
    seen = frames_seen(pairing.tracks)
    truth = truth if seen is None else seen.truth(truth)
    tracks = read_tracks(pairing.tracks)
    return score_sequence(truth.people, tracks, truth.ignore, truth.other)


def for_each_pairing(
    work: Callable[..., Result],
    pairings: Sequence[Pairing],
    rules: TruthRules = TruthRules(),
    address: str | None = None,
) -> dict[str, Result]:
    """Do something with every sequence, each a task of its own, see `tasks.for_each`.

    Args:
        work: A function of a module, called with a pairing and `rules`.
        pairings: Sequences with ground truth.
        rules: How ground truth is read.
        address: Ray to run on.

    Returns:
        What `work` gave, by sequence, in the order of `pairings`.

    Raises:
        ValueError: If `work` refuses a file.
        RunError: If there is no Ray at the address.
    """
    results = for_each(partial(work, rules=rules), pairings, address)
    return {pairing.name: result for pairing, result in zip(pairings, results, strict=True)}

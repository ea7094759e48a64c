"""Tracks against ground truth, a sequence a task: in this process, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from models.metrics.tracking import SequenceScores, score_sequence
from pipelines.sequences import Pairing, TruthRules, read_tracks, read_truth

MOST_IN_PROCESS = 8  # sequences; to start a Ray takes longer than to score so many

Result = TypeVar("Result")


def score_pairing(pairing: Pairing, rules: TruthRules = TruthRules()) -> SequenceScores:
    """Scores of one sequence that has ground truth.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    if pairing.truth is None:
        raise ValueError(f"gt: no ground truth of {pairing.name}")
    truth = read_truth(pairing.truth, rules)
    tracks = read_tracks(pairing.tracks)
    return score_sequence(truth.people, tracks, truth.ignore, truth.other)


def for_each(
    work: Callable[[Pairing, TruthRules], Result],
    pairings: Sequence[Pairing],
    rules: TruthRules = TruthRules(),
    address: str | None = None,
) -> dict[str, Result]:
    """Do something with every sequence, each a task of its own; the same in any order.

    Args:
        work: A function of a module, called with a pairing and the rules.
        pairings: Sequences with ground truth; every node must see their files.
        rules: How ground truth is read.
        address: Ray to run on (`local`, `auto`, `ray://HOST:PORT`). None runs up to
            `MOST_IN_PROCESS` sequences in this process and more on a local Ray.

    Returns:
        What `work` gave, by sequence, in the order of `pairings`.

    Raises:
        ValueError: The first error in that order, if `work` refuses a file.
        RunError: If there is no Ray at the address.
    """
    if address is None and len(pairings) <= MOST_IN_PROCESS:
        return {pairing.name: work(pairing, rules) for pairing in pairings}
    import ray

    from pipelines.cluster import connected

    with connected(address or "local"):
        task: Any = ray.remote(_attempt).options(num_cpus=1)
        results: list[Result | ValueError] = ray.get(
            [task.remote(work, pairing, rules) for pairing in pairings]
        )
    found: dict[str, Result] = {}
    for pairing, result in zip(pairings, results, strict=True):
        if isinstance(result, ValueError):
            raise result
        found[pairing.name] = result
    return found


def _attempt(
    work: Callable[[Pairing, TruthRules], Result], pairing: Pairing, rules: TruthRules
) -> Result | ValueError:
    """What `work` gives, or its refusal as a value: Ray would wrap it in a traceback."""
    try:
        return work(pairing, rules)
    except (ValueError, OSError) as error:
        return ValueError(str(error))

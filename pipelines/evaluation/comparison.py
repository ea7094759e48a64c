"""Compares several results on the same sequences.

Sequences and frames that some results lack are left out of all: figures pooled over different
sequences or frames do not show which tracker is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jde_ray.models.metrics.bootstrap import (
    CONFIDENCE,
    FEW_SEQUENCES,
    LEAST_SEQUENCES,
    NUM_RESAMPLES,
    Difference,
    differences,
)
from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, summarize
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen, frames_seen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, truth_name
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.evaluation.tracks import score_pairing
from jde_ray.pipelines.names import listed
from jde_ray.pipelines.parallel import for_each


@dataclass(frozen=True)
class Comparison:
    """Results scored on the sequences, and in the frames, that all of them have.

    Attributes:
        scores: Scores by result, in the given order, and by sequence, `OVERALL` last.
        differences: Differences from the first result, by result (without the first) and figure.
        missing: Sequences that are not compared, each with the results that lack it.
        frames: Sequences of which only some frames are compared, with a text that names these.
    """

    scores: dict[str, dict[str, SequenceScores]]
    differences: dict[str, dict[str, Difference]]
    missing: dict[str, list[str]]
    frames: dict[str, str]

    @property
    def sequences(self) -> list[str]:
        """Names of the sequences that are compared."""
        return [name for name in next(iter(self.scores.values())) if name != OVERALL]

    @property
    def explanation(self) -> str:
        """Text that explains the differences and their intervals, or why intervals are missing."""
        first, number = next(iter(self.scores)), len(self.sequences)
        if number < LEAST_SEQUENCES:
            are = "sequence is" if number == 1 else "sequences are"
            return (
                f"Differences from {first}. {number} {are} too few to estimate an interval from; "
                f"expected at least {LEAST_SEQUENCES}."
            )
        few = f" Intervals from fewer than {FEW_SEQUENCES} sequences are too narrow."
        return (
            f"Differences from {first}. Brackets hold {100 * CONFIDENCE:.0f} % intervals from "
            f"{NUM_RESAMPLES} resamples of the {number} sequences; a difference is marked if "
            "its interval excludes 0."
            f"{few if number < FEW_SEQUENCES else ''}"
        )

    def notes(self, left_out: Sequence[str]) -> list[str]:
        """Lines that name the sequences and frames that are not compared.

        Args:
            left_out: Sequences without ground truth.
        """
        missing = [f"{name} (not in {', '.join(of)})" for name, of in self.missing.items()]
        partly = [f"{name} ({seen})" for name, seen in self.frames.items()]
        said = {
            "not in all results, not compared": missing,
            "without ground truth, not scored": left_out,
            "scored on the frames that all runs processed": partly,
        }
        return [f"{what}: {listed(names)}" for what, names in said.items() if names]

    def figures(self) -> dict[str, dict[str, dict[str, float]]]:
        """Figures by result and sequence, `OVERALL` last."""
        return {
            result: {name: one.figures() for name, one in own.items()}
            for result, own in self.scores.items()
        }


@dataclass(frozen=True)
class _Task:
    """A sequence of one result, with the frames that the other results are limited to."""

    pairing: Pairing
    others: tuple[FramesSeen, ...]


def compare(
    results: Mapping[str, Sequence[Pairing]],
    rules: TruthRules = TruthRules(),
    address: str | None = None,
) -> Comparison:
    """Score the sequences that all results have, each in a separate task.

    Args:
        results: Sequences with ground truth, by result; the others are compared with the first.
        rules: Rules for reading ground truth.
        address: Address of the Ray cluster; None for this process if there are few tasks.

    Raises:
        ValueError: If no sequence is in all results, or a file cannot be read.
        RunError: If there is no Ray at the address.
    """
    found = {
        result: {pairing.truth: pairing for pairing in pairings if pairing.truth is not None}
        for result, pairings in results.items()
    }
    names = _name_sequences(list(found.values()))
    missing = {
        name: lacking
        for truth, name in names.items()
        if (lacking := [result for result, own in found.items() if truth not in own])
    }
    common = {truth: name for truth, name in names.items() if name not in missing}
    if not common:
        has = "; ".join(
            f"{result}: {listed([names[truth] for truth in own], 4)}"
            for result, own in found.items()
        )
        raise ValueError(f"tracks: no sequence is in all results, got {has}")
    seen = {
        (result, truth): frames_seen(own[truth].predictions)
        for result, own in found.items()
        for truth in common
    }
    tasks = []
    frames = {}
    for result, own in found.items():
        for truth, name in common.items():
            limits = dict.fromkeys(one for other in found if (one := seen[other, truth]))
            others = tuple(one for one in limits if one != seen[result, truth])
            tasks.append(_Task(own[truth], others))
            if limits:
                frames[name] = ", ".join(map(str, limits))
    scored = iter(for_each(partial(_score, rules=rules), tasks, address))
    scores = {result: {name: next(scored) for name in common.values()} for result in found}
    return Comparison(
        {result: summarize(own) for result, own in scores.items()},
        differences(scores),
        missing,
        frames,
    )


def _score(task: _Task, rules: TruthRules) -> SequenceScores:
    return score_pairing(task.pairing, rules, task.others)


def _name_sequences(found: Sequence[Mapping[Path, Pairing]]) -> dict[Path, str]:
    """Names by ground truth: the results' name if they agree, else that of the ground truth."""
    given: dict[Path, dict[str, None]] = {}
    for own in found:
        for truth, pairing in own.items():
            given.setdefault(truth, {})[pairing.name] = None
    return {
        truth: next(iter(names)) if len(names) == 1 else truth_name(truth) or truth.stem
        for truth, names in given.items()
    }

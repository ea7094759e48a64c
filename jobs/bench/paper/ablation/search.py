"""The search for the two weights of App.Opt: of detection (score and box) and of embedding.

The paper searches them for each embedding loss. Here each pair of a grid trains for a tenth of the
budget; around the best pair, each weight is then tried a factor of 3 larger and smaller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jde_ray.jobs.bench.paper.ablation.execution import Scores
from jde_ray.jobs.bench.paper.ablation.row_run import RowRun
from jde_ray.pipelines.training.settings import TrainingConfig

Pair = tuple[float, float]

DETECTION = (64.0, 8.0, 1.0, 512.0, 0.125)
EMBEDDING = (0.1, 1.0, 0.01, 10.0, 0.001)
REFINEMENT = 3.0
SHARE = 0.1  # of the budget


def parse_grid(text: str) -> list[Pair]:
    """The pairs of a grid `NxM`: N weights of detection, M of embedding, each from 1 to 5.

    Raises:
        ValueError: If the text is something else.
    """
    match = re.fullmatch(r"([1-5])x([1-5])", text)
    if match is None:
        raise ValueError(f"search: got {text!r}, expected NxM with numbers from 1 to 5, as 3x3")
    detection, embedding = (int(number) for number in match.groups())
    return [(d, e) for d in sorted(DETECTION[:detection]) for e in sorted(EMBEDDING[:embedding])]


def shortened(training: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """A tenth of a budget, at least one step."""
    if training.minutes is not None:
        return replace(training, minutes=training.minutes * SHARE)
    steps = training.steps or (training.epochs or 1) * steps_per_epoch
    short = max(1, round(steps * SHARE))
    warmup = min(training.warmup_steps, max(1, short // 4))
    return replace(training, epochs=None, steps=short, warmup_steps=warmup, schedule="cosine")


def merit(scores: Scores) -> float:
    """The mean of AP and TPR in percent, as far as they could be measured; below 0 if diverged."""
    if "diverged" in scores:
        return -1.0
    return ((scores["ap"] or 0.0) + (scores["tpr"] or 0.0)) / 2


def search(
    grid: Sequence[Pair],
    losses: Sequence[str],
    trial: Callable[[str, Pair], RowRun],
    execute: Callable[[Sequence[RowRun]], list[Scores]],
) -> dict[str, dict[str, Any]]:
    """The best pair of weights of each loss, with all trials.

    Args:
        grid: Pairs to begin with.
        losses: Embedding losses.
        trial: Makes the short run of a loss with a pair.
        execute: Does runs and returns their scores.

    Returns:
        By loss `best`, a pair, and `trials`, from a text `DETECTION:EMBEDDING` to merits.
    """
    merits: dict[str, dict[Pair, float]] = {loss: {} for loss in losses}
    best: Mapping[str, Pair] = {}
    for refined in (False, True):
        tried = [
            (loss, pair)
            for loss in losses
            for pair in (_around(best[loss]) if refined else grid)
            if pair not in merits[loss]
        ]
        results = execute([trial(loss, pair) for loss, pair in tried])
        for (loss, pair), scores in zip(tried, results, strict=True):
            merits[loss][pair] = merit(scores)
        best = {loss: max(known, key=lambda pair: known[pair]) for loss, known in merits.items()}
    return {
        loss: {
            "best": list(best[loss]),
            "trials": {f"{d:g}:{e:g}": round(value, 2) for (d, e), value in known.items()},
        }
        for loss, known in merits.items()
    }


def _around(pair: Pair) -> list[Pair]:
    detection, embedding = pair
    return [
        (detection * REFINEMENT, embedding),
        (detection / REFINEMENT, embedding),
        (detection, embedding * REFINEMENT),
        (detection, embedding / REFINEMENT),
    ]

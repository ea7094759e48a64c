"""Finds and reads ground truth in MOTChallenge and KITTI trees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.formats.mot import BENCHMARKS, Benchmark, GroundTruth, read_ground_truth
from jde_ray.pipelines.formats.tracks import read_tracks

_NOT_SEARCHED = frozenset({"img1", "det"})  # in a MOTChallenge sequence: many files, no truth


@dataclass(frozen=True)
class TruthRules:
    """Rules for reading ground truth.

    Attributes:
        benchmark: Benchmark whose rules for classes and distractors apply, see
            `read_ground_truth`.
        min_visibility: Tracks on people below this visibility are neither right nor wrong. The
            benchmarks count everyone (0).
    """

    benchmark: Benchmark = "auto"
    min_visibility: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_visibility <= 1:
            raise ValueError(f"min-visibility: got {self.min_visibility}, expected 0 to 1")


def rules_of(benchmark: str, min_visibility: float) -> TruthRules:
    """Rules for ground truth, from the name of a benchmark in any case.

    Raises:
        ValueError: If the benchmark is unknown or the visibility out of range.
    """
    for known in BENCHMARKS:
        if benchmark.lower() == known.lower():
            return TruthRules(known, min_visibility)
    raise ValueError(f"benchmark: got {benchmark}, expected {' | '.join(BENCHMARKS)}")


def find_truths(root: Path) -> dict[str, list[Path]]:
    """Files of ground truth by the name of their sequence.

    Args:
        root: Folder with NAME/gt/gt.txt, NAME.gt.txt or NAME.parquet anywhere below it.
    """
    found: dict[str, list[Path]] = {}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(set(subfolders) - _NOT_SEARCHED)
        here = Path(folder)
        for file in sorted(files):
            if (name := truth_name(here / file)) is not None:
                found.setdefault(name, []).append(here / file)
    return found


def truth_name(path: Path) -> str | None:
    """Name of the sequence whose ground truth the file is; None if it is called otherwise."""
    if path.name == "gt.txt" and path.parent.name == "gt":
        return path.parent.resolve().parent.name
    if path.name.endswith(".gt.txt"):
        return path.name.removesuffix(".gt.txt")
    return path.stem if path.name.endswith(".parquet") else None


def read_truth(path: Path, rules: TruthRules = TruthRules()) -> GroundTruth:
    """Ground truth of a sequence, from MOT text or Parquet in the schema of `tracks/`.

    Raises:
        ValueError: If it cannot be read, in one line with the file, and the line of a text file.
    """
    if path.suffix == ".parquet":
        rows = read_tracks(path)
        truth = GroundTruth(rows, np.ones(len(rows)), BoxRows.empty(), BoxRows.empty())
    else:
        truth = read_ground_truth(path, rules.benchmark)
    hidden = truth.visibility < rules.min_visibility
    if not hidden.any():
        return truth
    ignore = BoxRows.concatenate([truth.ignore, truth.people[hidden]])
    return GroundTruth(truth.people[~hidden], truth.visibility[~hidden], ignore, truth.other)

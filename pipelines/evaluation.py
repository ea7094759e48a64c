"""Tracks of a run against ground truth, sequence by sequence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from models.metrics.hota import HotaCounts, add_counts, hota_counts
from models.metrics.rows import BoxRows
from models.metrics.tracking import (
    TrackingScores,
    score_sequence,
    summarize,
    without_distractors,
)
from pipelines.mot_format import read_ground_truth


@dataclass(frozen=True)
class SequenceScores:
    """CLEAR and identity scores of a sequence beside its HOTA; ratios in [0, 1]."""

    clear: TrackingScores
    hota: HotaCounts


def sequence_name(video_id: str) -> str:
    """Name of the video: its id without the hash of its URI."""
    return video_id.rpartition("-")[0]


def read_tracks(path: Path) -> BoxRows:
    """Rows of one file of `tracks/`."""
    columns = ["frame", "track_id", "x1", "y1", "x2", "y2"]
    table = pq.read_table(path, columns=columns)
    values = {name: table.column(name).to_numpy() for name in columns}
    tlbr = np.stack([values[name] for name in ("x1", "y1", "x2", "y2")], 1).astype(np.float64)
    return BoxRows(values["frame"].astype(np.int64), values["track_id"].astype(np.int64), tlbr)


def find_truth(root: Path, name: str) -> Path | None:
    """Ground truth of a sequence: `NAME/gt/gt.txt` anywhere below `root`, or `NAME.gt.txt`."""
    found = sorted(root.glob(f"**/{name}/gt/gt.txt")) or sorted(root.glob(f"**/{name}.gt.txt"))
    return found[0] if found else None


def score_run(
    tracks: Iterable[Path], truth_root: Path
) -> tuple[dict[str, SequenceScores], list[str]]:
    """Score every file of `tracks/` that has ground truth.

    Args:
        tracks: Parquet files named by video id.
        truth_root: Folder searched by `find_truth`.

    Returns:
        Scores by sequence with `OVERALL` last (empty where nothing has truth), and the names of
        the videos without truth.

    Raises:
        ValueError: If a ground truth file cannot be read, with file and line.
    """
    accumulators, counts, without = {}, {}, []
    for path in sorted(tracks):
        name = sequence_name(path.stem)
        truth_path = find_truth(truth_root, name)
        if truth_path is None:
            without.append(name)
            continue
        truth = read_ground_truth(truth_path)
        rows = read_tracks(path)
        accumulators[name] = score_sequence(truth.people, rows, truth.ignore, truth.other)
        if len(truth.ignore):
            rows = without_distractors(truth.people, rows, truth.ignore, truth.other)
        counts[name] = hota_counts(truth.people, rows)
    if counts:
        counts["OVERALL"] = add_counts(list(counts.values()))
    clear = summarize(accumulators)
    return {name: SequenceScores(clear[name], counts[name]) for name in counts}, without

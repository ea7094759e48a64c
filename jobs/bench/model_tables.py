"""The tables of `jde bench models`: one line per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, summarize
from jde_ray.pipelines.evaluation.detections import ImageBoxes, class_tables
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings, embedding_scores, gap_table
from jde_ray.pipelines.report.tables import Figures, FigureTable

MEAN = "mean of sequences"
PEOPLE, PAIRS = "people", "pairs"  # lines with the numbers that the figures are of
TRACK_COLUMNS = ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "Prcn", "Rcll", "IDs", "FP", "FN")
CROWDED = "> .3"
# key, title, the table of `class_tables`, and its column
CLASS_TABLES = (
    ("ap_by_height", "AP by height, px of 576x320", "by_height", "AP"),
    ("sure_recall_by_height", "Recall by height, scores from .5", "by_height", "Rcll@.5"),
    ("recall_by_height", "Recall by height, all detections", "by_height", "Rcll"),
    ("ap_by_visible_share", "AP by visible share", "by_visible_share", "AP"),
    ("sure_recall_by_visible_share", "Recall by visible share, scores from .5",
     "by_visible_share", "Rcll@.5"),
)  # fmt: skip
RATES = (("TPR@5e-2", "FAR .05"), ("TPR@1e-1", "FAR .1"))

Lines = dict[str, dict[str, Figures]]  # by sequence and line


@dataclass(frozen=True)
class Result:
    """What was measured of an entry, by sequence.

    Attributes:
        scores: Scores of its tracks.
        images: People and detections.
        frames: Timed frames.
        seconds: Time for these frames, decoding included.
    """

    scores: dict[str, SequenceScores] = field(default_factory=dict)
    images: dict[str, ImageBoxes] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def build_tables(
    results: Mapping[str, Result], known: Mapping[str, Mapping[str, KnownEmbeddings]]
) -> list[FigureTable]:
    """All tables.

    Args:
        results: What was measured of every network, by its name.
        known: Embeddings at the boxes of the ground truth by network and sequence.
    """
    return [track_table(results), *found_tables(results), *embedding_tables(known)]


def track_table(results: Mapping[str, Result]) -> FigureTable:
    """Scores of the tracks, and frames per second."""
    first = next(iter(results.values()))
    figures: Lines = {name: {} for name in [*first.scores, OVERALL]}
    for network, result in results.items():
        for name, scores in summarize(result.scores).items():
            one = scores.figures()
            rate = frame_rate(result, name)
            figures[name][network] = {
                **{column: one[column] for column in TRACK_COLUMNS},
                "frames/s": rate,
                "% of first": 100 * rate / frame_rate(first, name),
            }
    note = "One frame after the other through all networks, decoding included."
    return FigureTable("tracks", "Tracks", "network", figures, note)


def frame_rate(result: Result, name: str) -> float:
    """Frames per second of a sequence, or of all for `OVERALL`."""
    names = list(result.frames) if name == OVERALL else [name]
    return sum(result.frames[one] for one in names) / sum(result.seconds[one] for one in names)


def found_tables(results: Mapping[str, Result]) -> list[FigureTable]:
    """Who is found, by height and visible share, and where people overlap."""
    by_network = {
        network: {table.key: table for table in class_tables(result.images)}
        for network, result in results.items()
    }
    first = next(iter(by_network.values()))
    tables = []
    for key, title, source, column in CLASS_TABLES:
        if source not in first:
            continue
        figures: Lines = {}
        for name, classes in first[source].figures.items():
            figures[name] = {PEOPLE: {one: own["boxes"] for one, own in classes.items()}}
            for network, found in by_network.items():
                own = found[source].figures[name]
                figures[name][network] = {one: own[one][column] for one in classes}
        tables.append(FigureTable(key, title, "network", figures, first[source].note))
    crowds = {
        name: {
            network: found["by_overlap"].figures[name][CROWDED]
            for network, found in by_network.items()
        }
        for name in first["by_overlap"].figures
    }
    title = "Where people overlap by an IoU above .3"
    return [*tables, FigureTable("crowded", title, "network", crowds)]


def embedding_tables(known: Mapping[str, Mapping[str, KnownEmbeddings]]) -> list[FigureTable]:
    """True positive rates by gap; those at .1 also over all pairs."""
    by_network = {name: table for name, one in known.items() if (table := gap_table(one))}
    if not by_network:
        return []
    whole = {
        name: {seq: 100 * scores.at(0.1) for seq, scores in embedding_scores(known[name]).items()}
        for name in by_network
    }
    first = next(iter(by_network.values()))
    tables = []
    for rate, title in RATES:
        figures: Lines = {}
        for name, gaps in first.figures.items():
            figures[name] = {PAIRS: {gap: own["pairs"] for gap, own in gaps.items()}}
            for network, table in by_network.items():
                figures[name][network] = {
                    gap: own[rate] for gap, own in table.figures[name].items()
                }
        if rate == "TPR@1e-1":
            for name, lines in figures.items():
                for network in lines:
                    all_pairs = whole[network][name] if network in whole else float("nan")
                    lines[network] = {**lines[network], "all pairs": all_pairs}
        key = f"tpr_at_{title.split('.')[1]}"
        shown = f"TPR at {title}, by sightings and the frames between"
        tables.append(FigureTable(key, shown, "network", _with_mean(figures), first.note))
    return tables


def _with_mean(figures: Lines) -> Lines:
    """The figures with the mean of the sequences before `OVERALL`, if there are several."""
    names = [name for name in figures if name != OVERALL]
    if len(names) < 2:
        return figures
    mean: dict[str, Figures] = {
        line: {column: _mean([figures[name][line][column] for name in names]) for column in columns}
        for line, columns in figures[OVERALL].items()
        if line != PAIRS
    }
    return {**{name: figures[name] for name in names}, MEAN: mean, OVERALL: figures[OVERALL]}


def _mean(values: Sequence[float]) -> float:
    """Mean of the known values; NaN if there is none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")

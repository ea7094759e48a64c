"""Turns scores into the columns, curves and charts of `jde eval`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jde_ray.models.metrics.tracking import SequenceScores
    from jde_ray.pipelines.detection.known_boxes import Readings
    from jde_ray.pipelines.evaluation.comparison import Comparison
    from jde_ray.pipelines.evaluation.detections import ImageBoxes
    from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings
    from jde_ray.pipelines.evaluation.ground_truth import TruthRules
    from jde_ray.pipelines.evaluation.network_scores import ScoredFrames
    from jde_ray.pipelines.evaluation.pairing import Pairing
    from jde_ray.pipelines.report.scores import Chart
    from jde_ray.pipelines.report.tables import FigureTable

MOST_CURVE_POINTS = 1000  # per curve in the JSON file
DIFFERENCE_COLUMNS = (("HOTA", "MOTA", "IDF1"), ("DetA", "AssA", "IDs"))  # between results


@dataclass(frozen=True)
class Scored:
    """Scores of one kind, ready for display.

    Attributes:
        title: Title of the HTML page.
        figures: Figures by sequence, those over all sequences last.
        columns: Columns of the table, in groups that may be separate tables.
        headline: Columns shown large on the page.
        charts: Charts on the page.
        curves: Curves for the JSON file.
        tables: Further tables.
    """

    title: str
    figures: dict[str, dict[str, float]]
    columns: tuple[Sequence[str], ...]
    headline: Sequence[str]
    charts: list[Chart]
    curves: dict[str, Any]
    tables: list[FigureTable] = field(default_factory=list)


def nobody_in(figures: Mapping[str, float]) -> str:
    """A line that says so if the figures are of ground truth without any person; else empty."""
    if figures.get("boxes") != 0 and not math.isnan(figures.get("HOTA", 0.0)):
        return ""
    return "the ground truth has no person in the frames that are scored, so nothing can be found"


def page_of(scored: Scored, place: str, left_out: list[str]) -> str:
    """Text of the page of `--html`; `place` names predictions and truth."""
    from jde_ray.pipelines.report.scores import score_page

    return score_page(
        scored.title,
        place,
        scored.figures,
        left_out,
        scored.charts,
        headline=scored.headline,
        more=scored.tables,
    )


def page_of_results(
    comparison: Comparison, places: Mapping[str, str], gt: str, left_out: Sequence[str]
) -> str:
    """Text of the page of `--html` for several results.

    Args:
        comparison: Scores and differences by result.
        places: Paths of the results by name.
        gt: Path of the ground truth.
        left_out: Sequences without ground truth.
    """
    from jde_ray.pipelines.report.results import results_charts, results_page

    figures = comparison.figures()
    sequences = next(iter(figures.values()))
    shown = [column for part in DIFFERENCE_COLUMNS for column in part]
    differences = {
        result: {column: own[column] for column in shown}
        for result, own in comparison.differences.items()
    }
    return results_page(
        f"against {gt}",
        {name: {result: own[name] for result, own in figures.items()} for name in sequences},
        differences,
        comparison.explanation,
        places,
        results_charts(comparison.scores, differences),
        comparison.notes(left_out),
    )


def score_tracks(pairings: list[Pairing], rules: TruthRules, address: str | None) -> Scored:
    """Figures of the official kit, and curves over its IoU thresholds."""
    from jde_ray.pipelines.evaluation.pairing import for_each_pairing
    from jde_ray.pipelines.evaluation.tracks import score_pairing

    return show_tracks(for_each_pairing(score_pairing, pairings, rules, address))


def show_tracks(own: Mapping[str, SequenceScores], tables: Sequence[FigureTable] = ()) -> Scored:
    """Figures and curves of tracks from the scores of each sequence."""
    from jde_ray.models.metrics.hota import ALPHAS
    from jde_ray.models.metrics.tracking import COUNTS, OVERALL, RATIOS, summarize
    from jde_ray.pipelines.report.scores import tracking_charts

    scores = summarize(own)
    hota = scores[OVERALL].hota
    curves = {"IoU": ALPHAS, "HOTA": hota.hota_curve, "DetA": hota.detection_curve,
              "AssA": hota.association_curve}  # fmt: skip
    return Scored(
        "Tracks against ground truth",
        {name: one.figures() for name, one in scores.items()},
        (RATIOS, COUNTS),
        ("HOTA", "MOTA", "IDF1", "IDs"),
        tracking_charts(scores),
        {name: curve.round(6).tolist() for name, curve in curves.items()},
        list(tables),
    )


def score_detections(pairings: list[Pairing], rules: TruthRules, address: str | None) -> Scored:
    """Average precision of saved detections."""
    from jde_ray.pipelines.evaluation.detections import collect_boxes
    from jde_ray.pipelines.evaluation.pairing import for_each_pairing

    return show_boxes(for_each_pairing(collect_boxes, pairings, rules, address))


def show_boxes(
    images: dict[str, ImageBoxes], whole: Mapping[str, ImageBoxes] | None = None
) -> Scored:
    """Average precision at IoU .5, the published mean over images, and who is found.

    Args:
        images: People and detections by sequence.
        whole: The same with detections from `network_scores.LEAST_SCORE` on, for a further column.
    """
    from jde_ray.models.metrics.tracking import OVERALL
    from jde_ray.pipelines.evaluation.detections import class_tables, detection_scores
    from jde_ray.pipelines.report.scores import detection_charts

    scores = detection_scores(images)
    more = {} if whole is None else detection_scores(whole)
    figures = {
        name: {
            "AP": 100 * one.average_precision,
            **({"AP from .05": 100 * more[name].average_precision} if more else {}),
            "AP of images": 100 * one.published_mean,
            "Prcn": 100 * one.precision,
            "Rcll": 100 * one.recall,
            "boxes": one.num_truth,
            "detections": one.num_detections,
            "images": one.num_published_images,
        }
        for name, one in scores.items()
    }
    curve = scores[OVERALL].curve
    some = slice(None, None, max(1, len(curve.recall) // MOST_CURVE_POINTS))
    curves = {"score": curve.scores, "recall": curve.recall, "precision": curve.precision}
    return Scored(
        "Detections against ground truth",
        figures,
        (list(figures[OVERALL]),),
        ("AP", "Prcn", "Rcll"),
        detection_charts(scores),
        {name: values[some].round(6).tolist() for name, values in curves.items()},
        class_tables(images),
    )


def score_embeddings(pairings: list[Pairing], rules: TruthRules, address: str | None) -> Scored:
    """True positive rates at given false accept rates, over all pairs of saved embeddings."""
    from jde_ray.pipelines.evaluation.embeddings import collect_embeddings
    from jde_ray.pipelines.evaluation.pairing import for_each_pairing

    return show_embeddings(for_each_pairing(collect_embeddings, pairings, rules, address))


def show_network(
    sets: Sequence[ScoredFrames], readings: Mapping[str, Readings], *, of_boxes: bool
) -> Scored:
    """Scores of a network by the published protocols, for its boxes or its embeddings.

    Args:
        sets: Frames and their ground truth.
        readings: What the network gave on them, by the name of the set.
        of_boxes: Score its boxes, instead of its embeddings.
    """
    from jde_ray.pipelines.evaluation.network_scores import PUBLISHED_SCORE

    if not of_boxes:
        return show_embeddings({one.name: one.embeddings(readings[one.name]) for one in sets})
    published = {one.name: one.boxes(readings[one.name], PUBLISHED_SCORE) for one in sets}
    return show_boxes(published, {one.name: one.boxes(readings[one.name]) for one in sets})


def show_embeddings(known: dict[str, KnownEmbeddings]) -> Scored:
    """True positive rates over all pairs, and by gap, by sequence and over all sequences."""
    from jde_ray.models.metrics.tracking import OVERALL
    from jde_ray.pipelines.evaluation.embeddings import embedding_scores, gap_table
    from jde_ray.pipelines.report.scores import embedding_charts

    scores = embedding_scores(known)
    figures: dict[str, dict[str, float]] = {}
    for name, one in scores.items():
        rates = zip(one.false_accept_rates, one.true_positive_rates, strict=True)
        figures[name] = {
            **{f"TPR@{far:.0e}".replace("e-0", "e-"): 100 * float(tpr) for far, tpr in rates},
            "embeddings": one.num_embeddings,
            "people": one.num_identities,
        }
    return Scored(
        "Embeddings against ground truth",
        figures,
        (list(figures[OVERALL]),),
        ("TPR@1e-1", "TPR@1e-3", "embeddings", "people"),
        embedding_charts(scores),
        {},
        [] if (by_gap := gap_table(known)) is None else [by_gap],
    )

"""The self-contained page of `jde eval --html`: a table of scores and their charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from string import Template
from typing import TypeVar

import numpy as np

from jde_ray.models.metrics.detection import DetectionScores
from jde_ray.models.metrics.embedding import EmbeddingScores
from jde_ray.models.metrics.hota import ALPHAS
from jde_ray.models.metrics.tracking import OVERALL, SequenceScores
from jde_ray.pipelines.report.canvas import PERCENT, Axis
from jde_ray.pipelines.report.charts import (
    Line,
    bar_chart,
    line_chart,
    point_chart,
)
from jde_ray.pipelines.report.tables import FigureTable, cell, table_card

Scores = TypeVar("Scores")
MAX_DRAWN = 24  # sequences in a chart; the table has all of them


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and a caption of one sentence."""

    title: str
    drawing: str
    caption: str
    is_wide: bool = False


def score_page(
    title: str,
    place: str,
    figures: Mapping[str, Mapping[str, float]],
    left_out: Sequence[str],
    charts: Sequence[Chart],
    subject: str = "sequence",
    headline: Sequence[str] = (),
    more: Sequence[FigureTable] = (),
) -> str:
    """Text of the page; equal inputs give equal text.

    Args:
        title: Title of the page.
        place: Predictions and ground truth, as text.
        figures: Figures by sequence, those over all sequences last.
        left_out: Sequences without ground truth.
        charts: Charts below the table.
        subject: Heading of the column that names the lines.
        headline: Columns whose last figure is shown large above the table.
        more: Further tables.
    """
    table = _table(figures, left_out, subject)
    tables = f'<section class="card scroll" style="margin-top: 20px">{table}</section>'
    tables += "".join(map(table_card, more))
    return fill_page(title, place, _tiles(figures, headline), tables, charts)


def fill_page(title: str, place: str, tiles: str, tables: str, charts: Sequence[Chart]) -> str:
    """The page with these parts; `tiles` and `tables` are HTML already."""
    folder = Path(__file__).parent
    return Template((folder / "scores.html").read_text(encoding="utf-8")).substitute(
        style=(folder / "style.css").read_text(encoding="utf-8"),
        title=escape(title),
        place=escape(place),
        tiles=tiles,
        tables=tables,
        charts="".join(map(_chart, charts)),
    )


def _tiles(figures: Mapping[str, Mapping[str, float]], headline: Sequence[str]) -> str:
    if not headline:
        return ""
    last = list(figures.values())[-1]
    tiles = "".join(
        f'<div class="card tile"><b>{cell(last[name])}</b><span>{escape(name)}</span></div>'
        for name in headline
    )
    return f'<div class="tiles">{tiles}</div>'


def _table(
    figures: Mapping[str, Mapping[str, float]], left_out: Sequence[str], subject: str
) -> str:
    columns = list(next(iter(figures.values())))
    head = "".join(f'<th class="n">{escape(column)}</th>' for column in columns)
    lines = [
        f"<tr{' class=group' if name == OVERALL else ''}><td>{escape(name)}</td>"
        + "".join(f'<td class="n">{cell(of[column])}</td>' for column in columns)
        + "</tr>"
        for name, of in figures.items()
    ]
    nothing = '<td class="n">-</td>' * len(columns)
    lines[-1:-1] = [f"<tr><td>{escape(n)} (no ground truth)</td>{nothing}</tr>" for n in left_out]
    return (
        f"<table><thead><tr><th>{escape(subject)}</th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _chart(chart: Chart) -> str:
    kind = "card wide" if chart.is_wide else "card"
    return (
        f'<section class="{kind}"><h3>{escape(chart.title)}</h3>{chart.drawing}'
        f'<p class="soft">{escape(chart.caption)}</p></section>'
    )


def tracking_charts(scores: Mapping[str, SequenceScores]) -> list[Chart]:
    """HOTA and its parts over the thresholds, detection against association, and bars."""
    whole, own = scores[OVERALL], drawn_of(scores)
    overlap = Axis("IoU a match needs", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1))
    parts = {"HOTA": whole.hota.hota_curve, "DetA": whole.hota.detection_curve,
             "AssA": whole.hota.association_curve}  # fmt: skip
    lines = [Line(name, ALPHAS, curve, name == "HOTA") for name, curve in parts.items()]
    each = [Line(name, ALPHAS, one.hota.hota_curve) for name, one in own.items()]
    points = {
        name: (one.hota.detection_accuracy, one.hota.association_accuracy)
        for name, one in [*own.items(), (OVERALL, whole)]
    }
    sizes = {
        "HOTA": [one.hota.hota for one in own.values()],
        "MOTA": [one.clear.mota for one in own.values()],
        "IDF1": [one.identity.idf1 for one in own.values()],
    }
    return [
        Chart("HOTA and its parts, all sequences",
              line_chart(lines, overlap, replace(PERCENT, title="%")),
              "An early fall means inaccurate boxes; AssA below DetA means weaker identities."),
        Chart("Detection against association", point_chart(
              points, replace(PERCENT, title="DetA"), replace(PERCENT, title="AssA"), same_hota()),
              "Faint lines join equal HOTA."),
        Chart("HOTA of each sequence", line_chart(each, overlap, replace(PERCENT, title="HOTA")),
              "Over the IoU that a match needs."),
        bars("Sequences side by side", list(own), sizes),
    ]  # fmt: skip


def bars(title: str, names: list[str], groups: Mapping[str, Sequence[float]]) -> Chart:
    """Shares by group for every name, over the whole width if there are many."""
    is_wide = len(names) * len(groups) > 15
    drawing = bar_chart(names, groups, replace(PERCENT, title="%"), 1080 if is_wide else 460)
    return Chart(title, drawing, "A MOTA below 0 is drawn as 0.", is_wide=is_wide)


def detection_charts(scores: Mapping[str, DetectionScores]) -> list[Chart]:
    """Precision over recall for each sequence, and for all frames ranked together."""
    recall = replace(PERCENT, title="recall, %")
    precision = replace(PERCENT, title="precision, %")
    drawn = [*drawn_of(scores).items(), (OVERALL, scores[OVERALL])]
    lines = [
        Line(name, one.curve.recall, one.curve.precision, name == OVERALL) for name, one in drawn
    ]
    drawing = line_chart(lines, recall, precision)
    caption = (
        "Detections are ranked by score. A curve ends at the detector's own threshold; people "
        "beyond it count as not found."
    )
    return [Chart("Precision over recall", drawing, caption)]


def embedding_charts(scores: Mapping[str, EmbeddingScores]) -> list[Chart]:
    """True positive rate over the false accept rate, on a logarithmic scale."""
    rates = scores[OVERALL].false_accept_rates
    text = {float(rate): f"{rate:.0e}".replace("e-0", "e-") for rate in rates}
    accepted = Axis("false accept rate", float(rates.min()), float(rates.max()), tuple(text),
                    is_log=True, text=text)  # fmt: skip
    drawn = [*drawn_of(scores).items(), (OVERALL, scores[OVERALL])]
    lines = [
        Line(name, one.false_accept_rates, one.true_positive_rates, name == OVERALL)
        for name, one in drawn
    ]
    caption = (
        "Share of the pairs of one person that are accepted at a threshold which accepts this "
        "share of the pairs of different people."
    )
    return [
        Chart(
            "True positives at false accept rates",
            line_chart(lines, accepted, replace(PERCENT, title="true positive rate, %")),
            caption,
        )
    ]


def drawn_of(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Scores of the sequences to draw, without `OVERALL`."""
    names = [name for name in scores if name != OVERALL]
    return {name: scores[name] for name in names[:MAX_DRAWN]}


def same_hota(
    levels: Iterable[float] = (0.2, 0.4, 0.6, 0.8), low: float = 0, high: float = 1
) -> list[Line]:
    """Curves of equal HOTA over the detection accuracies from `low` to `high`."""
    lines = []
    for hota in levels:
        detection = np.linspace(max(low, hota**2), max(high, hota**2), 60)
        lines.append(Line(f"HOTA {100 * hota:.0f}", detection, hota**2 / detection))
    return lines

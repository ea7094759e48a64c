"""The page of several results side by side, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np

from jde_ray.models.metrics.bootstrap import Difference
from jde_ray.models.metrics.hota import ALPHAS
from jde_ray.models.metrics.tracking import COUNTS, OVERALL, SequenceScores, best_results
from jde_ray.pipelines.report.canvas import NUM_STYLES, PALETTE, PERCENT, Axis, fitted_axis
from jde_ray.pipelines.report.charts import (
    Interval,
    Line,
    bar_chart,
    interval_chart,
    line_chart,
    point_chart,
)
from jde_ray.pipelines.report.scores import Chart, drawn_of, fill_page, same_hota
from jde_ray.pipelines.report.tables import cell, plain_table


def results_page(
    place: str,
    figures: Mapping[str, Mapping[str, Mapping[str, float]]],
    differences: Mapping[str, Mapping[str, Difference]],
    explanation: str,
    places: Mapping[str, str],
    charts: Sequence[Chart],
    notes: Sequence[str] = (),
) -> str:
    """The page of several results side by side; equal inputs give equal text.

    Args:
        place: Text that names the ground truth.
        figures: Figures by sequence and result; those over all sequences come last.
        differences: Differences from the first result, by result and column.
        explanation: Text that explains the differences.
        places: Paths of the results by name.
        charts: Charts below the tables.
        notes: Lines that name what is not compared.
    """
    *_, overall = figures
    folded = _results_table({name: one for name, one in figures.items() if name != overall}, {})
    said = "".join(f'<p class="soft">{escape(note[:1].upper() + note[1:])}</p>' for note in notes)
    table = _results_table({overall: figures[overall]}, places)
    tables = "".join(
        (
            f'<section class="card scroll tables">{table}'
            f'<p class="soft">The best of each column is bold.</p>{said}</section>',
            f'<section class="card scroll tables"><h3>Differences</h3>{_differences(differences)}'
            f'<p class="soft">{escape(explanation)}</p></section>',
            '<details class="card scroll tables"><summary>Every sequence</summary>'
            f"{folded}</details>",
        )
    )
    return fill_page("Results side by side", place, "", tables, charts)


def _results_table(
    figures: Mapping[str, Mapping[str, Mapping[str, float]]], places: Mapping[str, str]
) -> str:
    """Figures by sequence and result, the best in bold; a single sequence is not named."""
    columns = list(next(iter(next(iter(figures.values())).values())))
    first = ["sequence", "result"] if len(figures) > 1 or not places else ["result"]
    lines = []
    for sequence, results in figures.items():
        best = {column: best_results(results, column) for column in columns}
        for number, (result, own) in enumerate(results.items()):
            where = f'<span class="soft">{escape(places[result])}</span>' if places else ""
            cells = f"<td>{'' if number else escape(sequence)}</td>" * (len(first) - 1)
            cells += f"<td>{escape(result)}{where}</td>"
            for column in columns:
                kind = "n best" if result in best[column] else "n"
                cells += f'<td class="{kind}">{cell(own[column])}</td>'
            lines.append(f"<tr>{cells}</tr>")
    return plain_table(first, columns, lines)


def _differences(differences: Mapping[str, Mapping[str, Difference]]) -> str:
    lines = []
    for result, figures in differences.items():
        cells = "".join(
            f'<td class="{"n best" if one.is_clear else "n"}">{one.text(column in COUNTS)}</td>'
            for column, one in figures.items()
        )
        lines.append(f"<tr><td>{escape(result)}</td>{cells}</tr>")
    return plain_table(["result"], list(next(iter(differences.values()))), lines)


def results_charts(
    scores: Mapping[str, Mapping[str, SequenceScores]],
    differences: Mapping[str, Mapping[str, Difference]],
) -> list[Chart]:
    """Differences with their intervals, and the curves, points and bars of each result.

    Args:
        scores: Scores by result and sequence, `OVERALL` last.
        differences: Differences from the first result, by result and column.
    """
    whole = {name: own[OVERALL] for name, own in scores.items()}
    drawn = dict(list(whole.items())[:NUM_STYLES])
    left = _not_drawn(len(whole) - len(drawn))
    overlap = Axis("IoU a match needs", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1))
    lines = [Line(name, ALPHAS, one.hota.hota_curve) for name, one in drawn.items()]
    shares = {
        "HOTA": [one.hota.hota for one in whole.values()],
        "MOTA": [one.clear.mota for one in whole.values()],
        "IDF1": [one.identity.idf1 for one in whole.values()],
    }
    return [
        _difference_chart(next(iter(scores)), differences, list(shares)),
        Chart("HOTA of each result", line_chart(lines, overlap, replace(PERCENT, title="HOTA")),
              "Over the IoU that a match needs, all sequences." + left),
        _accuracy_chart(drawn, left),
        *_bar_charts(shares, scores),
    ]  # fmt: skip


def _difference_chart(
    first: str, differences: Mapping[str, Mapping[str, Difference]], columns: Sequence[str]
) -> Chart:
    rows = {
        column: [
            Interval(name, own[column].value, own[column].low, own[column].high)
            for name, own in differences.items()
        ]
        for column in columns
    }
    ends = [end for own in rows.values() for one in own for end in (one.value, one.low, one.high)]
    drawing = interval_chart(rows, fitted_axis("percentage points", [0.0, *ends]), first=1)
    caption = "Too few sequences for intervals."
    if any(np.isfinite(one.low) for own in rows.values() for one in own):
        caption = "If an interval excludes 0, the choice of sequences alone hardly explains it."
    return Chart(f"Differences from {first}", drawing, caption, is_wide=True)


def _accuracy_chart(drawn: Mapping[str, SequenceScores], left: str) -> Chart:
    found = {name: one.hota.detection_accuracy for name, one in drawn.items()}
    linked = {name: one.hota.association_accuracy for name, one in drawn.items()}
    x = fitted_axis("DetA", list(found.values()), 100)
    y = fitted_axis("AssA", list(linked.values()), 100)
    ends = [
        float(np.sqrt(max(0.0, one * other))) for one, other in ((x.low, y.low), (x.high, y.high))
    ]
    levels = [level for level in fitted_axis("", ends, 100).ticks if 0 < level <= 1]
    points = {name: (found[name], linked[name]) for name in drawn}
    drawing = point_chart(points, x, y, same_hota(levels, x.low, x.high))
    return Chart("Detection against association", drawing,
                 "Faint lines join equal HOTA, all sequences." + left)  # fmt: skip


def _bar_charts(
    shares: Mapping[str, Sequence[float]], scores: Mapping[str, Mapping[str, SequenceScores]]
) -> list[Chart]:
    """Bars over all sequences, and HOTA of each, as far as colours and room allow."""
    first, *_ = scores.values()
    names, results = list(drawn_of(first)), list(scores)[: len(PALETTE)]
    own = {one: [scores[one][name].hota.hota for name in names] for one in results}
    is_wide = max(len(names) * len(results), 3 * len(scores)) > 15
    width = 1080 if is_wide else 460
    together = bar_chart(list(scores), shares, replace(PERCENT, title="%"), width)
    each = bar_chart(names, own, replace(PERCENT, title="HOTA"), width)
    caption = "HOTA of each result." + _not_drawn(
        len(scores) - len(results), len(first) - 1 - len(names)
    )
    return [
        Chart("Results side by side", together, "A MOTA below 0 is drawn as 0.", is_wide),
        Chart("Every sequence", each, caption, is_wide),
    ]


def _not_drawn(results: int, sequences: int = 0) -> str:
    left = {"results": results, "sequences": sequences}
    said = [f"{number} more {what}" for what, number in left.items() if number]
    return f" Not drawn: {' and '.join(said)}." if said else ""

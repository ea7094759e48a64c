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
from jde_ray.pipelines.report.scores import Chart, bars, cell, drawn_of, fill_page, same_hota


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
        place: What they were scored against.
        figures: Figures by sequence (the one over all last), by result.
        differences: From the first result, by column, by result.
        explanation: What the differences are.
        places: Where the results are.
        charts: Below the tables.
        notes: What is not compared.
    """
    *_, overall = figures
    folded = _results_table({name: one for name, one in figures.items() if name != overall}, {})
    said = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
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
    """Figures by sequence, by result, the best in bold; a single sequence is not named."""
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
    return _plain_table(first, columns, lines)


def _differences(differences: Mapping[str, Mapping[str, Difference]]) -> str:
    lines = []
    for result, figures in differences.items():
        cells = "".join(
            f'<td class="{"n best" if one.is_clear else "n"}">{one.text(column in COUNTS)}</td>'
            for column, one in figures.items()
        )
        lines.append(f"<tr><td>{escape(result)}</td>{cells}</tr>")
    return _plain_table(["result"], list(next(iter(differences.values()))), lines)


def _plain_table(first: Sequence[str], columns: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in first)
    head += "".join(f'<th class="n">{escape(column)}</th>' for column in columns)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def results_charts(
    scores: Mapping[str, Mapping[str, SequenceScores]],
    differences: Mapping[str, Mapping[str, Difference]],
) -> list[Chart]:
    """Differences with their intervals, and the curves, points and bars of each result.

    Args:
        scores: By sequence, `OVERALL` last, by result.
        differences: From the first result, by column, by result.
    """
    first, whole = next(iter(scores)), {name: own[OVERALL] for name, own in scores.items()}
    drawn = dict(list(whole.items())[:NUM_STYLES])
    overlap = Axis("IoU a match needs", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1))
    lines = [Line(name, ALPHAS, one.hota.hota_curve) for name, one in drawn.items()]
    points = {
        name: (one.hota.detection_accuracy, one.hota.association_accuracy)
        for name, one in drawn.items()
    }
    found, linked = zip(*points.values(), strict=True)
    named = {
        "HOTA": [one.hota.hota for one in whole.values()],
        "MOTA": [one.clear.mota for one in whole.values()],
        "IDF1": [one.identity.idf1 for one in whole.values()],
    }
    rows = {
        column: [
            Interval(name, own[column].value, own[column].low, own[column].high)
            for name, own in differences.items()
        ]
        for column in named
    }
    ends = [end for own in rows.values() for one in own for end in (one.value, one.low, one.high)]
    charts = [
        Chart(f"Differences from {first}", interval_chart(
              rows, fitted_axis("percentage points", [0.0, *ends]), first=1),
              "An interval that leaves out 0 is more than the choice of these sequences.",
              is_wide=True),
        Chart("HOTA of each result", line_chart(lines, overlap, replace(PERCENT, title="HOTA")),
              "Over the IoU that a match needs, all sequences."),
        Chart("Detection against association", point_chart(
              points, fitted_axis("DetA", found, 100), fitted_axis("AssA", linked, 100),
              same_hota(np.arange(0.02, 1, 0.02))),
              "Faint lines join equal HOTA, all sequences."),
        bars("Results side by side", list(whole), named),
    ]  # fmt: skip
    return charts + _sequence_bars(scores)


def _sequence_bars(scores: Mapping[str, Mapping[str, SequenceScores]]) -> list[Chart]:
    """HOTA of each sequence by result, as far as colours and room go."""
    first, *_ = scores.values()
    names, results = list(drawn_of(first)), list(scores)[: len(PALETTE)]
    sizes = {one: [scores[one][name].hota.hota for name in names] for one in results}
    left = len(scores) - len(results), len(first) - 1 - len(names)
    caption = "".join(
        f" {number} more {what} in the table above." if number else ""
        for number, what in zip(left, ("results are", "sequences are"), strict=True)
    )
    is_wide = len(names) * len(results) > 15
    drawing = bar_chart(names, sizes, replace(PERCENT, title="HOTA"), 1080 if is_wide else 460)
    text = f"HOTA of each result.{caption}"
    return [Chart("Every sequence", drawing, text, is_wide=is_wide)]

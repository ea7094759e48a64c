"""Tables of figures with two headings per line, for the terminal, JSON and pages alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from jde_ray.models.metrics.tracking import OVERALL

Figures = Mapping[str, float]  # by column: counts as int, ratios as float in percent


@dataclass(frozen=True)
class FigureTable:
    """Figures by sequence and line.

    Attributes:
        key: Its key in JSON.
        title: Its title.
        heading: Heading of the column that names the lines.
        figures: Figures by sequence, `OVERALL` last, then by line and column.
        note: A sentence that explains it.
        is_long: Whether only the lines of `OVERALL` are shown at first.
    """

    key: str
    title: str
    heading: str
    figures: Mapping[str, Mapping[str, Figures]]
    note: str = ""
    is_long: bool = False

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(next(iter(next(iter(self.figures.values())).values())))

    @property
    def sequences(self) -> list[str]:
        """Sequences that are shown at first; one that stands alone is not shown twice."""
        if len(self.figures) == 2:
            return list(self.figures)[:1]
        return [OVERALL] if self.is_long else list(self.figures)

    def plain(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """The figures for JSON; NaN becomes null."""
        return {
            name: {
                line: {column: _known(value) for column, value in own.items()}
                for line, own in lines.items()
            }
            for name, lines in self.figures.items()
        }


def cell(value: float) -> str:
    """A figure as tables show it: a ratio in tenths of a percent, a count whole."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.1f}"
    return f"{value:,}"


def table_card(table: FigureTable) -> str:
    """The table as HTML, with all sequences behind a fold if they are not shown at first."""
    note = f'<p class="soft">{escape(table.note)}</p>' if table.note else ""
    folded = ""
    if len(table.sequences) < len(table.figures) - 1:
        rest = [name for name in table.figures if name not in table.sequences]
        folded = f"<details><summary>Every sequence</summary>{_lines(table, rest)}</details>"
    return (
        f'<section class="card scroll tables"><h3>{escape(table.title)}</h3>'
        f"{_lines(table, table.sequences)}{note}{folded}</section>"
    )


def _lines(table: FigureTable, sequences: Sequence[str]) -> str:
    is_named = len(sequences) > 1
    lines = []
    for name in sequences:
        for number, (line, own) in enumerate(table.figures[name].items()):
            first = f"<td>{'' if number else escape(name)}</td>" if is_named else ""
            cells = "".join(f'<td class="n">{cell(own[column])}</td>' for column in table.columns)
            begins = ' class="begin"' if is_named and not number else ""
            lines.append(f"<tr{begins}>{first}<td>{escape(line)}</td>{cells}</tr>")
    return plain_table(["sequence"] * is_named + [table.heading], table.columns, lines)


def plain_table(first: Sequence[str], columns: Sequence[str], lines: Sequence[str]) -> str:
    """A table of finished lines under headings: texts first, then columns of numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in first)
    head += "".join(f'<th class="n">{escape(column)}</th>' for column in columns)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _known(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else value

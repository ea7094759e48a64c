"""Scores per sequence as a table on the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

Figures = Mapping[str, float]  # by the column's name: counts are int, ratios float, in percent
_WITHOUT_TERMINAL = 200  # columns: a file or a pipe has no width, and figures are never cut


def print_scores(
    scores: Mapping[str, Figures], left_out: Sequence[str], parts: Sequence[Sequence[str]]
) -> None:
    """Print one line per sequence, the overall scores set apart.

    Args:
        scores: Figures by sequence, the overall ones last.
        left_out: Sequences without ground truth; each gets a line that says so.
        parts: Column names in groups, which become separate tables on a narrow terminal.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WITHOUT_TERMINAL)
    whole = _table(scores, left_out, [name for part in parts for name in part])
    if console.measure(whole).minimum <= console.width:
        console.print(whole)
        return
    for part in parts:
        console.print(_table(scores, left_out, part), crop=False, no_wrap=True)


def _table(scores: Mapping[str, Figures], left_out: Sequence[str], columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("sequence", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    lines = list(scores.items())
    for name, figures in lines[:-1]:
        table.add_row(name, *(_cell(figures[column]) for column in columns))
    for name in left_out:
        table.add_row(f"{name} (no ground truth)", *("-" for _ in columns))
    table.add_section()
    for name, figures in lines[-1:]:
        table.add_row(name, *(_cell(figures[column]) for column in columns))
    return table


def _cell(value: float) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.1f}"
    return str(value)


def write_json(path: Path, scores: Mapping[str, Figures], more: Mapping[str, object]) -> None:
    """Write figures by sequence and overall; NaN becomes null.

    Args:
        path: File to write.
        scores: Figures by sequence, the overall ones last.
        more: Further top-level entries, by key.

    Raises:
        OSError: If the file cannot be written.
    """
    plain = {
        name: {column: None if _is_nan(value) else value for column, value in figures.items()}
        for name, figures in scores.items()
    }
    overall = plain.popitem()[1]
    content = {"sequences": plain, "overall": overall, **more}
    text = json.dumps(content, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, scores: Mapping[str, Figures]) -> None:
    """Write one line per sequence, the overall one last; NaN becomes an empty cell.

    Raises:
        OSError: If the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = list(next(iter(scores.values())))
        writer.writerow(["sequence", *columns])
        for name, figures in scores.items():
            cells = (figures[column] for column in columns)
            writer.writerow([name, *("" if _is_nan(value) else value for value in cells)])


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)

"""Writes scores per sequence or per result as a table on the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jde_ray.jobs.console.json_file import put_json
from jde_ray.models.metrics.bootstrap import (
    CONFIDENCE,
    LEAST_SEQUENCES,
    NUM_RESAMPLES,
    Difference,
)
from jde_ray.models.metrics.tracking import COUNTS, best_results

if TYPE_CHECKING:
    from jde_ray.pipelines.evaluation.comparison import Comparison
    from jde_ray.pipelines.report.tables import FigureTable

Figures = Mapping[str, float]  # by column: counts as int, ratios as float in percent
_WITHOUT_TERMINAL = 200  # columns; a file or pipe has no width, and figures are never cut


def print_scores(
    scores: Mapping[str, Figures], left_out: Sequence[str], parts: Sequence[Sequence[str]]
) -> None:
    """Print one line per sequence; the overall scores are set apart.

    Args:
        scores: Figures by sequence, the overall ones last.
        left_out: Sequences without ground truth; each gets a line that says so.
        parts: Column names in groups, which become separate tables on a narrow terminal.
    """
    _print_in_parts(_console(), parts, lambda columns: _table(scores, left_out, columns))


def print_results(
    scores: Mapping[str, Mapping[str, Figures]], parts: Sequence[Sequence[str]]
) -> None:
    """Print one line per result, or per sequence and result; the best of each column is bold.

    Where text cannot be bold (a file, a pipe, a plain terminal), the best has a `*`.

    Args:
        scores: Figures by sequence and result; a single sequence is not named.
        parts: Column names in groups, which become separate tables on a narrow terminal.
    """
    console = _console()
    _print_in_parts(
        console, parts, lambda columns: _results_table(scores, columns, _marks(console))
    )


def print_differences(comparison: Comparison, parts: Sequence[Sequence[str]]) -> None:
    """Print how much results differ from the first, with intervals if they are known."""
    console = _console()
    _print_in_parts(
        console,
        parts,
        lambda columns: _differences_table(comparison.differences, columns, _marks(console)),
    )
    console.print(Text(f"  {comparison.explanation}", style="dim"))


def print_table(table: FigureTable) -> None:
    """Print a further table under its title, with the lines of the sequences shown at first."""
    console = _console()
    console.print(Text(f"  {table.title}", style="bold"))
    _print_in_parts(console, [table.columns], lambda columns: _lines_table(table, columns))


def _lines_table(table: FigureTable, columns: Sequence[str]) -> Table:
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    is_named = len(table.sequences) > 1
    for title in ("sequence", table.heading) if is_named else (table.heading,):
        shown.add_column(title, no_wrap=True)
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for sequence in table.sequences:
        for number, (line, figures) in enumerate(table.figures[sequence].items()):
            named = [Text("" if number else sequence)] if is_named else []
            shown.add_row(*named, Text(line), *(_cell(figures[column]) for column in columns))
        shown.add_section()
    return shown


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WITHOUT_TERMINAL)


def _marks(console: Console) -> bool:
    return not console.is_terminal or console.color_system is None


def _print_in_parts(
    console: Console, parts: Sequence[Sequence[str]], table_of: Callable[[Sequence[str]], Table]
) -> None:
    whole = [name for part in parts for name in part]
    fits = _width(table_of(whole)) <= console.width
    if not console.is_terminal and not fits:
        console, fits = Console(width=_width(table_of(whole))), True
    groups = [whole] if fits else parts
    for group in groups:
        for columns in _fitting(console, group, table_of):
            table = table_of(columns)
            width = _width(table)
            (console if width <= console.width else Console(width=width)).print(table)


def _fitting(
    console: Console, columns: Sequence[str], table_of: Callable[[Sequence[str]], Table]
) -> list[Sequence[str]]:
    """Split the columns into the fewest groups of about equal size that fit the width."""
    for size in range(len(columns), 1, -1):
        even = -(-len(columns) // -(-len(columns) // size))
        groups = [columns[at : at + even] for at in range(0, len(columns), even)]
        if all(_width(table_of(group)) <= console.width for group in groups):
            return groups
    return [[column] for column in columns]


def _width(table: Table) -> int:
    """Width in characters that the table needs, even if the console is narrower."""
    console = Console()
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _results_table(
    scores: Mapping[str, Mapping[str, Figures]], columns: Sequence[str], marks: bool
) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    is_named = len(scores) > 1
    for title in ("sequence", "result") if is_named else ("result",):
        table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column + " " * marks, justify="right", no_wrap=True)
    for sequence, results in scores.items():
        best = {column: best_results(results, column) for column in columns}
        for number, (result, figures) in enumerate(results.items()):
            cells = (
                _marked(_cell(figures[column]), result in best[column], marks) for column in columns
            )
            named = [Text("" if number else sequence)] if is_named else []
            table.add_row(*named, Text(result), *cells)
        table.add_section()
    return table


def _differences_table(
    found: Mapping[str, Mapping[str, Difference]], columns: Sequence[str], marks: bool
) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("result", no_wrap=True)
    for column in columns:
        table.add_column(column + " " * marks, justify="right", no_wrap=True)
    for result, figures in found.items():
        cells = (
            _marked(figures[column].text(column in COUNTS), figures[column].is_clear, marks)
            for column in columns
        )
        table.add_row(Text(result), *cells)
    return table


def _marked(text: str, is_marked: bool, marks: bool) -> Text:
    if marks:
        return Text(text + ("*" if is_marked else " "))
    return Text(text, style="bold" if is_marked else "")


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
    """Write figures by sequence and overall, and further entries, as JSON; NaN becomes null.

    Args:
        path: File to write, `-` for standard output.
        scores: Figures by sequence, the overall ones last.
        more: Further top-level entries, by key.

    Raises:
        OSError: If the file cannot be written.
    """
    content = {**_by_sequence(scores), **more}
    put_json(path, json.dumps(content, indent=1, allow_nan=False))


def write_comparison(
    path: Path, comparison: Comparison, places: Mapping[str, str], left_out: Sequence[str]
) -> None:
    """Write the figures of all results and their differences as JSON; NaN becomes null.

    Args:
        path: File to write, `-` for standard output.
        comparison: Scores and differences by result.
        places: Paths of the results by name.
        left_out: Sequences without ground truth.

    Raises:
        OSError: If the file cannot be written.
    """
    first = next(iter(comparison.scores))
    content = {
        "results": {
            result: {"tracks": places[result], **_by_sequence(figures)}
            for result, figures in comparison.figures().items()
        },
        "differences": {
            "from": first,
            "confidence": CONFIDENCE,
            "resamples": NUM_RESAMPLES if len(comparison.sequences) >= LEAST_SEQUENCES else 0,
            "results": {
                result: {column: _plain(asdict(one)) for column, one in figures.items()}
                for result, figures in comparison.differences.items()
            },
        },
        "not_in_all_results": comparison.missing,
        "without_ground_truth": list(left_out),
        "frames": comparison.frames,
    }
    put_json(path, json.dumps(content, indent=1, allow_nan=False))


def _by_sequence(scores: Mapping[str, Figures]) -> dict[str, object]:
    plain = {name: _plain(figures) for name, figures in scores.items()}
    overall = plain.popitem()[1]
    return {"sequences": plain, "overall": overall}


def _plain(figures: Figures) -> dict[str, float | None]:
    return {column: None if _is_nan(value) else value for column, value in figures.items()}


def write_csv(path: Path, scores: Mapping[str, Figures]) -> None:
    """Write one line per sequence as CSV, the overall one last; NaN becomes an empty cell.

    Raises:
        OSError: If the file cannot be written.
    """
    _write_lines(path, ("sequence",), {(name,): figures for name, figures in scores.items()})


def write_results_csv(path: Path, scores: Mapping[str, Mapping[str, Figures]]) -> None:
    """Write one line per result and sequence as CSV, the overall one of each result last.

    Raises:
        OSError: If the file cannot be written.
    """
    lines: dict[tuple[str, ...], Figures] = {
        (result, name): figures for result, own in scores.items() for name, figures in own.items()
    }
    _write_lines(path, ("result", "sequence"), lines)


def _write_lines(
    path: Path, titles: Sequence[str], lines: Mapping[tuple[str, ...], Figures]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = list(next(iter(lines.values())))
        writer.writerow([*titles, *columns])
        for names, figures in lines.items():
            cells = (figures[column] for column in columns)
            writer.writerow([*names, *("" if _is_nan(value) else value for value in cells)])


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)

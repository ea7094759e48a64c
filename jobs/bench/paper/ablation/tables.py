"""`table2.json`, `.md` and `.html`: the measured rows beside the published ones, and Figure 3."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

from jde_ray.jobs.bench.paper.ablation.row_run import SCORES
from jde_ray.jobs.bench.paper.ablation.rows import ROWS, UNCERTAINTY, Row
from jde_ray.jobs.bench.paper.figure3 import draw
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.curves import CURVES, read_table

# Columns of the table: heading, key in `scores.json`, place among the published figures
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("AP", "ap", 0),
    ("TPR@.1", "tpr", 1),
    ("MOTA", "mota", 2),
    ("IDs", "ids", 3),
    ("IDF1", "idf1", None),
    ("AP, mean of pictures", "ap_published", None),
    ("FP a frame at recall .5", "false_alarms", None),
)
FALSE_ALARM_RECALL = "0.5"
KINDS = ("score", "box", "identity")  # tasks of a head
FIGURE = "figure3.svg"


def gather(out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Content of `table2.json`: all runs that are done below a folder, row by row.

    Args:
        out: OUT of the ablation.
        facts: What is the same for all rows: recipe, machine, revision of the code.
    """
    rows = []
    for row in ROWS.values():
        runs = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(out.glob(f"{row.name}-[0-9]*/{SCORES}"))
        ]
        runs = [run for run in runs if run["row"] == row.name]
        if runs:
            rows.append(_measured(row, runs))
    return {**facts, "rows": rows, "answers": answers({row["row"]: row for row in rows})}


def _measured(row: Row, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ended = [run for run in runs if "diverged" not in run]
    figures = {}
    for _, key, _ in COLUMNS:
        values = [value for run in ended if (value := _value(run, key)) is not None]
        if values:
            figures[key] = {"mean": mean(values), "low": min(values), "high": max(values)}
    tasks = list(ended[0].get("weights", {})) if ended else []
    return {
        "row": row.name,
        "title": row.title,
        "published": list(row.published) if row.published else None,
        "seeds": len(runs),
        "diverged": len(runs) - len(ended),
        "measured": figures,
        "weights": {task: mean(run["weights"][task] for run in ended) for task in tasks},
        "seconds": sum(run["seconds"] for run in runs),
        "runs": list(runs),
    }


def _value(run: Mapping[str, Any], key: str) -> float | None:
    value = run.get(key)
    return value.get(FALSE_ALARM_RECALL) if isinstance(value, Mapping) else value


def answers(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences that answer the paper's questions, as far as their rows are done."""
    sentences = []
    losses = [f"{loss}-fixed" for loss in ("cross_entropy", "upper_bound", "triplet")]
    if all(_mean(rows, name, "tpr") is not None for name in losses):
        rates = [_mean(rows, name, "tpr") or 0.0 for name in losses]
        holds = "yes" if rates[0] > rates[1] > rates[2] else "no"
        sentences.append(
            "Is cross-entropy above the upper bound above triplet in TPR, as in the paper (88.2, "
            f"44.3, 42.2)? {holds}: {rates[0]:.1f}, {rates[1]:.1f}, {rates[2]:.1f}."
        )
    learned, fixed = (_mean(rows, name, "mota") for name in (UNCERTAINTY, losses[0]))
    if learned is not None and fixed is not None:
        overlap = " The ranges of their seeds overlap." if _overlap(rows, "mota", losses[0]) else ""
        sentences.append(
            "Is uncertainty above App.Opt in MOTA, as in the paper (65.8, 64.3)? "
            f"{'yes' if learned > fixed else 'no'}: {learned:.1f}, {fixed:.1f}.{overlap}"
        )
    kinds = _by_kind(rows.get(UNCERTAINTY, {}).get("weights", {}))
    if all(kinds.values()):
        text = ", ".join(
            f"{kind} {_short(min(v))} to {_short(max(v))}" for kind, v in kinds.items()
        )
        sentences.append(
            "Do the learned weights end where the paper's Figure 3 has them (detection about 100, "
            f"embedding about .1)? Here they end at: {text}."
        )
    names = (UNCERTAINTY, f"{UNCERTAINTY}-0.3")
    alarms = [_mean(rows, name, "false_alarms") for name in names]
    if None not in alarms:
        sentences.append(
            "Does background below .4 instead of .3 save false alarms? At a recall of .5 there are "
            f"{alarms[0]:.2f} a frame with .4, {alarms[1]:.2f} with .3."
        )
    return sentences


def _mean(rows: Mapping[str, Mapping[str, Any]], name: str, key: str) -> float | None:
    figure = rows.get(name, {}).get("measured", {}).get(key)
    return None if figure is None else float(figure["mean"])


def _overlap(rows: Mapping[str, Mapping[str, Any]], key: str, name: str) -> bool:
    one, other = (rows[n]["measured"][key] for n in (UNCERTAINTY, name))
    return bool(one["low"] <= other["high"] and other["low"] <= one["high"])


def _by_kind(weights: Mapping[str, float]) -> dict[str, list[float]]:
    return {k: [v for name, v in weights.items() if name.split("_")[0] == k] for k in KINDS}


def write(out: Path, table: Mapping[str, Any]) -> list[Path]:
    """Write the table in its three forms, and Figure 3 of the uncertainty row; return the files."""
    curves = read_table(open_store(str(out / f"{UNCERTAINTY}-0")), CURVES)
    files = [out / f"table2.{kind}" for kind in ("json", "md", "html")]
    if curves:
        draw(curves, out / FIGURE)
        files.append(out / FIGURE)
    texts = (json.dumps(table, indent=1) + "\n", markdown(table), page(table, out, bool(curves)))
    for file, text in zip(files, texts, strict=False):
        file.write_text(text, encoding="utf-8")
    return files


def lines_of(table: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the table's lines: a row's name, its seeds, and `measured (published)` figures."""
    return [
        [row["title"], str(row["seeds"]), *(_cell(row, *column) for column in COLUMNS)]
        for row in table["rows"]
    ]


def headings() -> list[str]:
    """Headings of the columns."""
    return ["row", "seeds", *(heading for heading, _, _ in COLUMNS)]


def _cell(row: Mapping[str, Any], _heading: str, key: str, place: int | None) -> str:
    figure = row["measured"].get(key)
    digits = 2 if key == "false_alarms" else 1
    if figure is None:
        text = "diverged" if row["diverged"] == row["seeds"] else "-"
    elif key == "ids":
        text = _ranged(figure, lambda value: f"{value:.0f}")
    else:
        text = _ranged(figure, lambda value: f"{value:.{digits}f}")
    if place is not None and row["published"]:
        text += f" ({row['published'][place]})"
    return text


def _ranged(figure: Mapping[str, float], show: Callable[[float], str]) -> str:
    low, high = show(figure["low"]), show(figure["high"])
    return show(figure["mean"]) + (f" [{low}, {high}]" if low != high else "")


CAPTION = (
    "Measured: mean [smallest, largest] over the seeds. In brackets: the paper's figure, of other "
    "data, another network and a training 100 times as long; only the order of rows compares."
)


def markdown(table: Mapping[str, Any]) -> str:
    """The table, its answers and its facts as Markdown."""
    lines = [headings(), ["---", *("---:" for _ in headings()[1:])], *lines_of(table)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    listed = "\n".join(f"* {sentence}" for sentence in table["answers"])
    return f"{text}\n\n{CAPTION}\n\n{listed}\n\n{_facts(table)}\n"


def _facts(table: Mapping[str, Any]) -> str:
    diverged = sum(row["diverged"] for row in table["rows"])
    seconds = sum(row["seconds"] for row in table["rows"])
    runs = sum(row["seeds"] for row in table["rows"])
    text = f"{runs} runs, {seconds / 60:.0f} minutes"
    if diverged:
        text += f", {diverged} diverged"
    named = (f"{name} {table[name]}" for name in ("recipe", "budget", "machine", "revision"))
    return f"{text}; {'; '.join(named)}."


def page(table: Mapping[str, Any], out: Path, has_figure: bool) -> str:
    """The table as a page of its own, with Figure 3 below it."""
    head = "".join(f"<th>{escape(name)}</th>" for name in headings())
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n"
        for cells in lines_of(table)
    )
    items = "".join(f"<li>{escape(sentence)}</li>\n" for sentence in table["answers"])
    figure = ""
    if has_figure:
        drawing = (out / FIGURE).read_text(encoding="utf-8")
        figure = "<h2>Figure 3: weights and losses of the uncertainty row</h2>\n"
        figure += drawing[drawing.index("<svg") :]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Table 2</title>\n'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:75em}"
        "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ccc}"
        "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}</style>\n"
        f"<h1>Table 2 of the paper, measured</h1>\n<table>\n<tr>{head}</tr>\n{body}</table>\n"
        f"<p>{escape(CAPTION)}</p>\n<ul>\n{items}</ul>\n<p>{escape(_facts(table))}</p>\n"
        f"{figure}\n</html>\n"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"

"""Figures as tables for the terminal; all of them are in the JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

_COLUMNS: dict[str, Sequence[str]] = {
    "layers": ("layer", "calls", "gflop", "us", "tflop_per_second", "best", "failed"),
    "networks": (
        *("name", "precision", "batch", "form", "frames_per_second", "share_of_limit"),
        *("network_ms", "selection_ms", "peak_mib", "failed"),
    ),
    "whole": (
        *("name", "chunk_frames", "graphs", "frames_per_second", "detected_frames_per_second"),
        *("busy_share", "boxes_per_frame", "detector_cores", "association_cores"),
        *("videos_committed", "failed"),
    ),
    "decoding": ("processes", "frames_per_second", "by", "clip"),
    "compile": (
        *("name", "batch", "effort", "frames_per_second", "share_of_limit", "network_ms"),
        *("compile_s", "failed"),
    ),
}


def show(name: str, figures: Any) -> list[Any]:
    """What is printed of a section's figures."""
    if name in _COLUMNS:
        return [_of_rows(_COLUMNS[name], figures)]
    if name == "profile":
        return [_of_rows(("kernel", "ms", "calls", "share"), case["top"], f"{title}: "
                f"{case['ms']:.2f} ms") for title, case in figures.items()]  # fmt: skip
    return [_of_pairs(figures)]


def _of_rows(columns: Sequence[str], rows: Sequence[dict[str, Any]], title: str = "") -> Table:
    table = Table(title=title or None)
    used = [column for column in columns if any(column in row for row in rows)]
    for column in used:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(column, "")) for column in used))
    return table


def _of_pairs(figures: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    for name, value in figures.items():
        if not isinstance(value, dict):
            table.add_row(name, _text(value))
            continue
        for key, inner in value.items():
            table.add_row(f"{name}: {key}", _text(inner))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return str(value)

"""The drawing and the page of `jde bench figure4`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jde_ray.jobs.bench.paper.combinations import OWN
from jde_ray.jobs.bench.paper.figure4_report import FEW, MANY
from jde_ray.pipelines.report.canvas import Axis, fitted_axis
from jde_ray.pipelines.report.panels import (
    Filling,
    Panel,
    PanelPoint,
    panel_chart,
    panel_picture,
)
from jde_ray.pipelines.report.scores import Chart, fill_page
from jde_ray.pipelines.report.tables import cell, plain_table

FILLINGS: dict[Filling, str] = {
    "filled": "joint network, its own embeddings",
    "crossed": "a joint network's boxes, separate embeddings",
    "open": "separate detector and embeddings",
}
# All figures of its Figure 4 that the paper's text states; its plot is not read off.
PAPER = (
    "The paper states of its Figure 4 (MOT-15 train and MOT-CVPR19-01, one Titan Xp) that JDE-DN53 "
    "runs at 22 frames/s, nearly as accurate as Cascade-R101 + PCB, which runs at about 6. Its "
    "other points are in a plot only, and are not repeated here."
)


_LINES = (
    "A line leads from a combination to its twin among many people: it leans to the right by as "
    "much as that is slower."
)
_COLUMNS = ("MOTA", "IDF1", "HOTA", "IDs", "boxes", "detect ms", "embed ms", "ms per box",
            "associate ms", "ms per frame")  # fmt: skip


def draw_page(report: Mapping[str, Any]) -> str:
    """The page: the drawing, and a table of all combinations."""
    place = (
        f"{report['machine']}, {report['threads']} threads, joint networks in "
        f"{report['precision']}; {report['clock']} time, one frame at a time, without decoding"
    )
    panels, x = build_panels(report["groups"])
    drawing = panel_chart(panels, x, _used(panels))
    table = f'<div class="scroll">{_table(report["groups"])}</div>'
    charts = [
        Chart("Accuracy against time per frame", drawing, f"{caption(report)} {_LINES}",
              is_wide=True),
        Chart("All figures", table, "Bold: no other combination is faster and at least as "
              "accurate. Boxes are those that score high enough for the tracker, per frame.",
              is_wide=True),
        Chart("The paper's own figures", "", PAPER, is_wide=True),
    ]  # fmt: skip
    return fill_page("Joint and separate detection and embedding", place, "", "", charts)


def _table(groups: Sequence[Mapping[str, Any]]) -> str:
    lines, shown = [], ""
    for row in groups:
        if row["sequence"] != shown:
            shown = row["sequence"]
            told = f"{shown}: {row['people']:.1f} per frame"
            lines.append(f'<tr class="group"><td colspan="{2 + len(_COLUMNS)}">{told}</td></tr>')
        scores, ms, nothing = row["scores"], row["ms"], math.nan
        has_crops = row["ms"]["embed"] > 0
        figures = (
            *(scores[name] for name in _COLUMNS[:4]),
            row["boxes"],
            ms["detect"],
            *((ms["embed"], row["ms_embed_per_box"]) if has_crops else (nothing, nothing)),
            ms["associate"],
            row["total_ms"],
        )
        best = " best" if row["on_front"] else ""
        cells = "".join(f'<td class="n{best}">{cell(value)}</td>' for value in figures)
        names = "".join(f"<td>{escape(row[key])}</td>" for key in ("detector", "embedding"))
        lines.append(f"<tr>{names}{cells}</tr>")
    return plain_table(("detector", "embedding"), _COLUMNS, lines)


def draw_picture(report: Mapping[str, Any]) -> bytes:
    """The drawing alone, as PNG."""
    panels, x = build_panels(report["groups"])
    return panel_picture(panels, x, _used(panels))


def caption(report: Mapping[str, Any]) -> str:
    """What all combinations have in common."""
    told = [f"{key} {value}" for key, value in report["association"].items()]
    shared = f"One association for all ({', '.join(told) or 'the defaults of jde'})"
    if report["tuned"]:
        limits = ", ".join(f"{name} {limit:g}" for name, limit in report["tuned"].items())
        shared += (
            "; the limit of a match by appearance was chosen per embedder, for the best MOTA on "
            f"these very sequences ({limits})"
        )
    else:
        shared += " and one set of limits"
    if report["conf"]:
        scores = (f"{name or 'others'} {score:g}" for name, score in report["conf"].items())
        shared += f"; score thresholds: {', '.join(scores)}"
    return f"{shared}."


def build_panels(groups: Sequence[Mapping[str, Any]]) -> tuple[list[Panel], Axis]:
    """Points by panel, with the axis of seconds per frame."""
    panels = []
    for name in (FEW, MANY):
        rows = [row for row in groups if row["sequence"] == name]
        if not rows:
            continue
        points = [
            PanelPoint(
                row["total_ms"] / 1000,
                row["scores"]["MOTA"],
                "joint embeddings" if row["embedding"] == OWN else row["embedding"],
                row["detector"],
                row["kind"],
            )
            for row in rows
        ]
        title = f"{name}: {rows[0]['people']:.1f} per frame, {rows[0]['frames']} frames"
        panels.append(Panel(title, points, fitted_axis("MOTA", [point.y for point in points])))
    times = [point.x for panel in panels for point in panel.points]
    x = fitted_axis("seconds per frame: detect, embed, associate", [0.0, *times])
    ticks = tuple(tick for tick in x.ticks if tick >= 0)
    return panels, Axis(x.title, 0.0, x.high, ticks, text=x.text)


def _used(panels: Sequence[Panel]) -> dict[Filling, str]:
    found = {point.filling for panel in panels for point in panel.points}
    return {filling: text for filling, text in FILLINGS.items() if filling in found}

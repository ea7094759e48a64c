"""The figures of `jde bench figure4`: rows, groups of sequences, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.table import Table

from jde_ray.jobs.bench.paper.combinations import NOTHING, OWN
from jde_ray.jobs.bench.paper.comparison import Measured
from jde_ray.models.metrics.tracking import SequenceScores

FEW, MANY = "few people", "many people"
_STAGES = ("detect", "embed", "associate")  # what a frame costs; decoding is told apart


def row_of(one: Measured) -> dict[str, Any]:
    """One combination on one sequence as JSON; times are in milliseconds per frame.

    `kind` is `filled` for a joint network with its own embeddings, `crossed` for its boxes with
    separate ones, `open` for a separate detector, as they are drawn.
    """
    ms = {stage: 1000 * seconds / one.frames for stage, seconds in one.seconds.items()}
    kind = "filled" if one.embedding == OWN else "crossed" if one.is_joint else "open"
    is_separate = one.embedding not in (OWN, NOTHING)
    return {
        "sequence": one.sequence,
        "detector": one.detector,
        "embedding": one.embedding,
        "kind": kind,
        "frames": one.frames,
        "people": one.people,
        "boxes": one.boxes / one.frames,
        "ms": ms,
        "ms_embed_per_box": 1000 * one.seconds["embed"] / max(one.boxes, 1) if is_separate else 0.0,
        "total_ms": sum(ms[stage] for stage in _STAGES),
        "appearance_limit": one.appearance_limit,
        "scores": {} if one.scores is None else one.scores.figures(),
    }


def group(measured: Sequence[Measured], crowd: float) -> list[dict[str, Any]]:
    """Rows as from `row_of`, over all sequences with few people and over all with many.

    `on_front` says that no other combination of the group is faster and at least as accurate.
    """
    grouped: dict[tuple[str, str, str], list[Measured]] = {}
    for one in measured:
        name = MANY if one.people >= crowd else FEW
        grouped.setdefault((name, one.detector, one.embedding), []).append(one)
    rows = [row_of(_joined(name, parts)) for (name, *_), parts in grouped.items()]
    for row in rows:
        others = [one for one in rows if one is not row and one["sequence"] == row["sequence"]]
        row["on_front"] = not any(
            one["total_ms"] < row["total_ms"] and one["scores"]["MOTA"] >= row["scores"]["MOTA"]
            for one in others
        )
    return sorted(rows, key=lambda row: str(row["sequence"]))


def _joined(name: str, parts: Sequence[Measured]) -> Measured:
    """One combination over several sequences as if they were one."""
    frames = sum(one.frames for one in parts)
    scores = sum((one.scores or SequenceScores() for one in parts), SequenceScores())
    return replace(
        parts[0],
        sequence=name,
        frames=frames,
        boxes=sum(one.boxes for one in parts),
        people=sum(one.people * one.frames for one in parts) / frames,
        seconds={stage: sum(one.seconds[stage] for one in parts) for stage in parts[0].seconds},
        scores=scores,
    )


def limited(one: Measured) -> str:
    """Name of the embeddings whose limit a combination uses: each joint network has its own."""
    return one.detector if one.embedding == OWN else one.embedding


def choose_limits(measured: Sequence[Measured]) -> dict[str, float]:
    """The limit per embedder with the best mean MOTA over all detectors, all sequences as one.

    IDF1 decides between equal ones.

    Args:
        measured: Every combination with every limit, on every sequence.
    """
    parts: dict[tuple[str, float, str], list[Measured]] = {}
    for one in measured:
        if one.appearance_limit is not None:
            key = (limited(one), one.appearance_limit, one.detector)
            parts.setdefault(key, []).append(one)
    accuracy: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for (name, limit, _), own in parts.items():
        figures = row_of(_joined(name, own))["scores"]
        found = (float(figures["MOTA"]), float(figures["IDF1"]))
        accuracy.setdefault(name, {}).setdefault(limit, []).append(found)
    return {
        name: max(by_limit, key=lambda limit: tuple(np.mean(by_limit[limit], axis=0)))
        for name, by_limit in accuracy.items()
    }


def per_box(report: Mapping[str, Any]) -> list[str]:
    """One line per separate embedder: its cost per box."""
    costs: dict[str, list[float]] = {}
    for row in report["rows"]:
        if row["ms"]["embed"]:
            total = costs.setdefault(row["embedding"], [0.0, 0.0])
            total[0] += row["ms"]["embed"] * row["frames"]
            total[1] += row["boxes"] * row["frames"]
    return [
        f"{name}: {milliseconds / max(boxes, 1):.2f} ms per box; a joint embedding costs nothing"
        for name, (milliseconds, boxes) in costs.items()
    ]


def build_table(report: Mapping[str, Any], caption: str) -> Table:
    """Format the groups as a table."""
    table = Table(
        title=f"{report['machine']}, {report['threads']} threads, "
        f"joint networks in {report['precision']}",
        caption=f"ms per frame ({report['clock']} time), one frame at a time, all combinations in "
        "turn on each frame; without decoding and warm-up. *: none is faster and as accurate. "
        f"{caption}",
    )
    table.add_column("people", no_wrap=True)
    for name in ("detector", "embedding"):
        table.add_column(name, no_wrap=True)
    for name in ("a frame", "boxes", "MOTA", "IDF1", "HOTA", "IDs",
                 "detect", "embed", "a box", "assoc.", "ms"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    shown = ""
    for row in report["groups"]:
        if shown and row["sequence"] != shown:
            table.add_section()
        scores, ms = row["scores"], row["ms"]
        table.add_row(
            "" if row["sequence"] == shown else row["sequence"].removesuffix(" people"),
            row["detector"],
            row["embedding"],
            f"{row['people']:.1f}",
            f"{row['boxes']:.1f}",
            *(f"{scores[name]:.1f}" for name in ("MOTA", "IDF1", "HOTA")),
            str(scores["IDs"]),
            f"{ms['detect']:.1f}",
            *(f"{value:.1f}" if row["ms_embed_per_box"] else "-"
              for value in (ms["embed"], row["ms_embed_per_box"])),
            f"{ms['associate']:.1f}",
            f"{row['total_ms']:.1f}{'*' if row['on_front'] else ' '}",
        )  # fmt: skip
        shown = row["sequence"]
    return table

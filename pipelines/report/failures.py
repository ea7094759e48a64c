"""The page of `jde eval --failures`: the ceiling, every switch, and pictures of the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from string import Template

from jde_ray.models.metrics.ceiling import AS_REPORTED, TRUE_IDS
from jde_ray.models.metrics.switches import Switch
from jde_ray.models.metrics.tracking import OVERALL
from jde_ray.pipelines.report.canvas import PERCENT
from jde_ray.pipelines.report.charts import bar_chart
from jde_ray.pipelines.report.scores import MAX_DRAWN
from jde_ray.pipelines.report.tables import FigureTable, cell, plain_table, table_card

MAX_LISTED = 1000  # switches in the page; the CSV file has all


@dataclass(frozen=True)
class Case:
    """A switch on the contact sheet.

    Attributes:
        sequence: Name of the sequence.
        switch: The switch.
        pictures: Captions and `data:` addresses of its pictures; empty without frames.
    """

    sequence: str
    switch: Switch
    pictures: Sequence[tuple[str, str]] = ()


def failures_page(
    place: str,
    ceiling: FigureTable,
    kinds: FigureTable,
    recall: Sequence[FigureTable],
    switches: Sequence[tuple[str, Switch]],
    cases: Sequence[Case],
    notes: Sequence[str] = (),
    separate: FigureTable | None = None,
) -> str:
    """Text of the page; equal inputs give equal text.

    Args:
        place: Tracks and ground truth, as text.
        ceiling: Figures by kind of ids (`models.metrics.ceiling`).
        kinds: Numbers of switches (`models.metrics.switches.count_kinds`).
        recall: Tables of who is found.
        switches: Every switch with its sequence.
        cases: The worst switches, worst first.
        notes: Lines that say what is missing.
        separate: Figures by kind of embeddings; None if they were not compared.
    """
    folder = Path(__file__).parent
    said = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
    tables = "".join(map(table_card, recall))
    other = "" if separate is None else table_card(separate)
    return Template((folder / "failures.html").read_text(encoding="utf-8")).substitute(
        style=(folder / "style.css").read_text(encoding="utf-8"),
        place=escape(place),
        tiles=_tiles(ceiling, kinds),
        notes=said,
        ceiling=table_card(ceiling) + _ceiling_chart(ceiling) + other,
        sheet=_sheet(cases),
        switches=table_card(kinds) + _list(switches),
        recall=f'<div class="side">{tables}</div>',
    )


def _tiles(ceiling: FigureTable, kinds: FigureTable) -> str:
    ours, best = (ceiling.figures[OVERALL][name] for name in (AS_REPORTED, TRUE_IDS))
    switches = kinds.figures[OVERALL]["all"]
    tiles = {
        "IDF1": cell(ours["IDF1"]),
        "IDF1, true ids": cell(best["IDF1"]),
        "HOTA": cell(ours["HOTA"]),
        "HOTA, true ids": cell(best["HOTA"]),
        "switches": cell(switches["all"]),
        "frames, wrong id": cell(switches["wrong frames"]),
    }
    cards = "".join(
        f'<div class="card tile"><b>{text}</b><span>{escape(name)}</span></div>'
        for name, text in tiles.items()
    )
    return f'<div class="tiles">{cards}</div>'


def _ceiling_chart(ceiling: FigureTable) -> str:
    names = [name for name in ceiling.figures if name != OVERALL][:MAX_DRAWN]
    shown = names if len(names) == 1 else [*names, OVERALL]
    groups = {
        ids: [ceiling.figures[name][ids]["IDF1"] / 100 for name in shown]
        for ids in ceiling.figures[OVERALL]
    }
    drawing = bar_chart(shown, groups, replace(PERCENT, title="IDF1, %"), 1080)
    caption = (
        "All ids at the same boxes. From the first bar to the second is what better association "
        "can win; the rest is missing boxes."
    )
    return (
        f'<section class="card tables"><h3>IDF1 by kind of ids</h3>{drawing}'
        f'<p class="soft">{caption}</p></section>'
    )


def _sheet(cases: Sequence[Case]) -> str:
    if not cases:
        return '<p class="soft">No person gets a wrong id.</p>'
    pictured = [case for case in cases if case.pictures]
    if not pictured:
        return '<p class="soft">No frames were found, so no pictures are shown.</p>'
    intro = (
        "Those that put a person under a wrong id for longest. White: the person in the "
        "truth. Coloured: reported boxes with their ids; one colour is one id."
    )
    return f'<p class="soft">{intro}</p><div class="sheet">{"".join(map(_case, pictured))}</div>'


def _case(case: Case) -> str:
    one = case.switch
    figures = "".join(
        f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}'
        "</figcaption></figure>"
        for caption, source in case.pictures
    )
    gap = "" if one.gap == 1 else f", last seen {one.gap} frames before"
    return (
        f'<section class="card"><div><h3>{escape(case.sequence)}</h3><p>Person {one.person}: '
        f'id {one.before} to {one.after}<br><span class="pill">{escape(one.kind)}</span></p>'
        f'<p class="soft">Frame {one.frame + 1}{gap}. Overlap {one.overlap_before:.2f} before, '
        f"{one.overlap_after:.2f} after. {one.wrong_frames} frames under id {one.after}.</p></div>"
        f'<div class="shots">{figures}</div></section>'
    )


def switch_columns(switches: Sequence[tuple[str, Switch]]) -> dict[str, list[str | float | None]]:
    """Columns of the list of switches; frames count from 1, as in MOT text.

    `camera_motion` is left out if it is unknown everywhere, and None where it is unknown.
    """
    columns: dict[str, list[str | float | None]] = {
        "sequence": [name for name, _ in switches],
        "frame": [one.frame + 1 for _, one in switches],
        "person": [one.person for _, one in switches],
        "id_before": [one.before for _, one in switches],
        "id_after": [one.after for _, one in switches],
        "kind": [one.kind for _, one in switches],
        "gap": [one.gap for _, one in switches],
        "wrong_frames": [one.wrong_frames for _, one in switches],
        "overlap_before": [round(one.overlap_before, 3) for _, one in switches],
        "overlap_after": [round(one.overlap_after, 3) for _, one in switches],
    }
    motion = [one.camera_motion for _, one in switches]
    if any(moved is not None for moved in motion):
        columns["camera_motion"] = [None if moved is None else round(moved, 1) for moved in motion]
    return columns


def _list(switches: Sequence[tuple[str, Switch]]) -> str:
    if not switches:
        return ""
    columns: Mapping[str, Sequence[str | float | None]] = switch_columns(switches[:MAX_LISTED])
    texts = ("sequence", "kind")
    order = [*texts, *(name for name in columns if name not in texts)]
    lines = []
    for row in zip(*(columns[name] for name in order), strict=True):
        shown = ["-" if value is None else escape(str(value)) for value in row]
        cells = [f"<td>{text}</td>" for text in shown[: len(texts)]]
        cells += [f'<td class="n">{text}</td>' for text in shown[len(texts) :]]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    more = len(switches) - len(lines)
    left = f'<p class="soft">{more} more are in switches.csv.</p>' if more else ""
    heads = [name.replace("_", " ") for name in order]
    table = plain_table(heads[: len(texts)], heads[len(texts) :], lines)
    return (
        '<details class="card tables"><summary>The list</summary>'
        f'<div class="long">{table}</div>{left}</details>'
    )

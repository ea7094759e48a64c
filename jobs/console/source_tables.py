"""What `jde data check` found, as lines of text or as a document for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from jde_ray.pipelines.data_sets.published import TABLE_1, TOTAL
from jde_ray.pipelines.formats.label_files import LabelErrors

if TYPE_CHECKING:
    from jde_ray.pipelines.training.data_check.counts import Checked, Counts, SourceCounts
    from jde_ray.pipelines.training.data_check.overlaps import Overlap

_MOST_LINES = 20  # of problems
_MOST_NAMES = 5  # of sequences or pictures
_COLUMNS = ("images", "boxes", "identities")
_NO_PAPER = 9  # columns before those of the paper


def lines_of(checked: Checked, overlaps: Sequence[Overlap]) -> Iterator[str]:
    """The table of all sources, how identities are counted, and the overlaps."""
    yield from _table(checked)
    yield from _explanations(checked)
    yield from _identity_lines(checked)
    yield from _overlap_lines(overlaps)


def problem_lines(problems: LabelErrors) -> Iterator[str]:
    """The first problems, and the number of each kind."""
    yield from (f"wrong: {line}" for line in problems.found[:_MOST_LINES])
    more = len(problems.found) - _MOST_LINES
    if problems.found:
        yield f"wrong: {problems.summary()}" + (f"; {more} of them not shown" if more > 0 else "")


def document_of(checked: Checked, overlaps: Sequence[Overlap]) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "sources": [asdict(one) for one in checked.sources],
        "identity_classes": checked.num_classes,
        "published_identity_classes": checked.num_published,
        "overlaps": [asdict(one) for one in overlaps],
        "problems": {"counts": dict(checked.problems.counts), "found": checked.problems.found},
    }


def _table(checked: Checked) -> list[str]:
    """All labels and what training takes, by source, beside the published counts."""
    rows: list[tuple[str, ...]] = [("source", *_COLUMNS, "every", *_COLUMNS, "ignored", *_COLUMNS)]
    rows += [_row(one) for one in checked.sources]
    labelled = _sum([one.labelled for one in checked.sources])
    used = _sum([one.used for one in checked.sources])
    rows.append(
        ("total", *_cells(labelled), "", *_cells(used), f"{used.ignored:,}", *_total(checked))
    )
    if not any(one.published for one in checked.sources):
        rows = [row[:_NO_PAPER] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    groups = [(1, 3, "labelled"), (4, 5, "training takes"), (9, 3, "the paper")]
    top = " " * widths[0]
    for first, count, title in groups:
        if first < len(widths):
            top += "  " + title.rjust(sum(widths[first : first + count]) + 2 * (count - 1))
    return [top, *(_aligned(row, widths) for row in rows)]


def _row(one: SourceCounts) -> tuple[str, ...]:
    paper = one.published
    printed = (paper.images, paper.boxes, paper.identities) if paper else ("", "", "")
    every = f"{one.every}" if one.every > 1 else ""
    used = (every, *_cells(one.used), f"{one.used.ignored:,}")
    return f"{one.kind} {one.path}", *_cells(one.labelled), *used, *printed


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = row
    cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
    return "  ".join((first.ljust(widths[0]), *cells)).rstrip()


def _cells(counts: Counts) -> tuple[str, str, str]:
    return f"{counts.images:,}", f"{counts.boxes:,}", f"{counts.identities:,}"


def _sum(counts: Sequence[Counts]) -> Counts:
    kind = type(counts[0])
    return kind(**{f.name: sum(getattr(one, f.name) for one in counts) for f in fields(kind)})


def _total(checked: Checked) -> tuple[str, str, str]:
    """The paper's total, if all of its sets are there."""
    names = {one.published.name for one in checked.sources if one.published}
    if names != {one.name for one in TABLE_1.values()}:
        return "", "", ""
    return TOTAL.images, TOTAL.boxes, TOTAL.identities


def _explanations(checked: Checked) -> Iterator[str]:
    """Why training takes other numbers than are labelled, where it does."""
    if any(one.every > 1 for one in checked.sources):
        yield "every: training takes every n-th image of a source"
    if any(one.used.ignored for one in checked.sources):
        yield (
            "ignored: neither person nor background: people less than 20 % visible and distractors "
            "of a sequence, groups, crowds"
        )


def _identity_lines(checked: Checked) -> Iterator[str]:
    yield f"identity classes of this recipe: {checked.num_classes:,}"
    for one in checked.sources:
        if one.declared is not None and one.num_numbers > one.declared:
            got = f"its labels need `identities: {one.num_numbers}`"
            yield f"{one.path}: `identities: {one.declared}` in the recipe, but {got}"
    if any(one.published for one in checked.sources):
        numbers = (f"{o.num_numbers:,} {o.path}" for o in checked.sources if o.num_numbers)
        total = f"{checked.num_published:,}"
        yield f"as the published code counts, largest number + 1 of each: {', '.join(numbers)}"
        yield f"and 1: {total}; the published classifier has {TOTAL.classes:,}"


def _overlap_lines(overlaps: Sequence[Overlap]) -> Iterator[str]:
    wrong: dict[tuple[str, str], list[str]] = {}
    shown: dict[str, list[str]] = {}
    for one in overlaps:
        if one.is_wrong:
            also = f" = {one.known_as}" if one.known_as != one.sequence else ""
            wrong.setdefault((one.scored, one.source), []).append(one.sequence + also)
        else:
            shown.setdefault(one.scored, []).append(f"{one.sequence} ({one.source})")
    for (where, source), names in wrong.items():
        yield f"OVERLAP: {source} learns from {_first(names)} of {where}"
    for part, names in shown.items():
        yield f"not to be scored on, since learned from, {part}: {', '.join(names)}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")

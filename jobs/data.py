"""`jde data`: public data sets as lists to train on, and what the sources of a recipe hold.

Also `python -m jobs.data`. Its verbs import what they need when called.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.runner import CONTEXT, main
from jde_ray.pipelines.data_sets.kinds import KINDS
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.pipelines.data_sets.convert import Converted
    from jde_ray.pipelines.training.data_check.counts import Checked, Counts
    from jde_ray.pipelines.training.data_check.overlaps import Overlap

app = typer.Typer(
    help="Convert public data sets into lists to train on; check the sources of a recipe.",
    context_settings=CONTEXT,
)
_MOST_LINES = 20  # of problems

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        help="\n\n".join(f"{name}: {kind.help}" for name, kind in KINDS.items()),
    ),
]
Source = Annotated[
    Path,
    typer.Argument(metavar="SRC", show_default=False, help="Folder with the unpacked download."),
]
Out = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        show_default=False,
        help="Folder for the lists, which may hold other sets: --data of jde train.",
    ),
]
MinHeight = Annotated[
    float | None,
    typer.Option(metavar="PIXELS", help=r"Leave out lower boxes. \[default: 50 for caltech]"),
]
MinVisible = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help=r"Leave out people less visible. \[default: 0.65 for caltech]"
    ),
]
Class = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="caltech, citypersons: label or class that is a person; repeatable."
        r" \[default: person; 1 to 5]",
    ),
]
Box = Annotated[
    Literal["full", "visible"] | None,
    typer.Option(
        help=r"citypersons, crowdhuman: the whole person or what is seen. \[default: full]"
    ),
]
Identities = Annotated[
    Literal["original", "compact"],
    typer.Option(
        help="original: numbered as in the published lists, whose classifier then fits; compact:"
        " without gaps."
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out and count wrong rows and files.")
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        help="Ray to run on, one task per sequence or video."
        r" \[default: this process for up to 16]",
    ),
]
RecipeFile = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", show_default=False, help="YAML of jde train --config."),
]
Data = Annotated[Path, typer.Option(help="Folder to which the paths in the recipe are relative.")]
Test = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        show_default=False,
        help="List or sequence below --data, or name of a sequence, that is for tests; repeatable.",
    ),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", show_default=False, help="As in jde train; repeatable."),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="PNG", show_default=False, help="Draw some pictures of each source with boxes."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def convert(
    name: Name,
    source: Source,
    out: Out,
    min_height: MinHeight = None,
    min_visible: MinVisible = None,
    classes: Class = None,
    box: Box = None,
    identities: Identities = "original",
    skip_bad: SkipBad = False,
    address: Address = None,
) -> None:
    """Convert a public data set into the unified JDE layout, which `kind: list` of a recipe reads.

    Example: jde data convert mot17 downloads/MOT17 data/

    OUT receives images/ (links where possible), labels_with_ids/, lists and NAME.json. The same
    command continues. docs/data-sets.md has the rules of each set. Tracks of a run are converted by
    jde convert; weights of a network are written by jde export.
    """
    from jde_ray.pipelines.data_sets.convert import convert as convert_all

    try:
        if name not in KINDS:
            raise ValueError(f"name: got {name!r}, expected {' | '.join(KINDS)}")
        rules = (
            KINDS[name]
            .load()
            .RULES.changed(
                name,
                {
                    "min_height": min_height,
                    "min_visible": min_visible,
                    "classes": tuple(classes) if classes else None,
                    "box": box,
                    "numbering": identities,
                },
            )
        )
        with working("converting", "parts"):
            done = convert_all(name, source, out, rules, skip_bad=skip_bad, address=address)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    for line in _converted_lines(done):
        print(line)
    if done.problems:
        print(f"jde: left out: {_amounts(done.problems)}", file=sys.stderr)


def _converted_lines(done: Converted) -> Iterator[str]:
    from jde_ray.pipelines.data_sets.published import TABLE_1

    for one in done.lists:
        text = f"{one.name}: {one.num_images:,} images, {one.num_boxes:,} boxes"
        if one.num_classes:
            text += f", {one.num_identities:,} identities (`identities: {one.num_classes}`)"
        if (paper := TABLE_1.get(one.name)) is not None:
            text += f"; the paper: {paper.images}, {paper.boxes}, {paper.identities}"
        yield text
    if done.left_out:
        yield f"by the rules: {_amounts(done.left_out)}"
    before = f", {done.num_before} of them were there already" if done.num_before else ""
    yield f"{done.num_parts} sequences, videos or splits{before}"


def _amounts(counts: Any) -> str:
    return ", ".join(f"{count:,} x {what}" for what, count in counts.items())


@app.command()
def check(
    recipe: RecipeFile,
    data: Data,
    test: Test = None,
    leave_out: LeaveOut = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> int:
    """Count what the sources of a recipe hold, and find what is wrong with them.

    Example: jde data check jobs/recipes/train_published.yaml --data data/

    Prints images, boxes and identities of each source, all that is labelled and what training
    takes, beside the paper's Table 1; missing and unreadable files, boxes out of range; sequences
    that are learned from and scored on.
    """
    from jde_ray.pipelines.parallel import in_turn
    from jde_ray.pipelines.training.data_check.counts import check_sources
    from jde_ray.pipelines.training.data_check.overlaps import find_overlaps
    from jde_ray.pipelines.training.data_check.sheet import draw_sheet
    from jde_ray.pipelines.training.recipe import read_recipe

    try:
        found = read_recipe(recipe).without(leave_out or ())
        with working("checking", "sources"):
            checked = check_sources(found, data, in_turn)
        overlaps = find_overlaps(found, data, checked.images, test or ())
        if plot is not None:
            with working(f"drawing {plot}"):
                draw_sheet(found, data, checked.images, plot)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if as_json:
        print(json.dumps(_document(checked, overlaps), indent=1))
    else:
        for line in (*_table(checked), *_identity_lines(checked), *_overlap_lines(overlaps)):
            print(line)
        for line in _problem_lines(checked):
            print(line, file=sys.stderr)
    is_wrong = bool(checked.problems.found) or any(one.is_wrong for one in overlaps)
    return ExitCode.SOME_FAILED if is_wrong else ExitCode.DONE


_COLUMNS = ("images", "boxes", "identities")


def _table(checked: Checked) -> list[str]:
    """All labels and what training takes, by source, beside the published counts."""
    rows = [("", "labelled", "", "", "training takes", "", "", "", "the paper", "", "")]
    rows.append(("source", *_COLUMNS, *_COLUMNS, "ignored", *_COLUMNS))
    for one in checked.sources:
        paper = one.published
        printed = (paper.images, paper.boxes, paper.identities) if paper else ("", "", "")
        labelled = _cells(one.labelled)
        rows.append(
            (
                f"{one.kind} {one.path}",
                *labelled,
                *_cells(one.used),
                f"{one.used.ignored:,}",
                *printed,
            )
        )
    whole, used = (
        _sum([s.labelled for s in checked.sources]),
        _sum([s.used for s in checked.sources]),
    )
    rows.append(("total", *_cells(whole), *_cells(used), f"{used.ignored:,}", *_total(checked)))
    if not any(one.published for one in checked.sources):
        rows = [row[:8] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows[1:], strict=True)]
    return [_aligned(row, widths) for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.ljust(w) if not i else cell.rjust(w)
                    for i, (cell, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
    return "  ".join((first, *rest)).rstrip()


def _cells(counts: Counts) -> tuple[str, str, str]:
    return f"{counts.images:,}", f"{counts.boxes:,}", f"{counts.identities:,}"


def _sum(counts: Sequence[Counts]) -> Counts:
    from jde_ray.pipelines.training.data_check.counts import Counts

    return Counts(
        *(sum(column) for column in zip(*(asdict(c).values() for c in counts), strict=True))
    )


def _total(checked: Checked) -> tuple[str, str, str]:
    """The paper's total, if all of its sets are there."""
    from jde_ray.pipelines.data_sets.published import TABLE_1, TOTAL

    names = {one.published.name for one in checked.sources if one.published}
    if names != {one.name for one in TABLE_1.values()}:
        return "", "", ""
    return TOTAL.images, TOTAL.boxes, TOTAL.identities


def _identity_lines(checked: Checked) -> Iterator[str]:
    yield f"identity classes of this recipe: {checked.num_classes:,}"
    numbers = [(one.path, one.num_numbers) for one in checked.sources if one.num_numbers]
    if numbers:
        parts = " + ".join(f"{count} ({path})" for path, count in numbers)
        yield f"as the published code counts them, largest number + 1 of each: {parts} + 1"
        yield f"  = {checked.num_published:,}; the published classifier has 14,455"


def _overlap_lines(overlaps: Sequence[Overlap]) -> Iterator[str]:
    for one in overlaps:
        name = one.sequence if one.sequence == one.known_as else f"{one.sequence} = {one.known_as}"
        if one.is_wrong:
            yield f"OVERLAP: {name} of {one.scored} is learned from: {one.source}"
    shown: dict[str, list[str]] = {}
    for one in overlaps:
        if not one.is_wrong:
            shown.setdefault(one.scored, []).append(f"{one.sequence} ({one.source})")
    for part, names in shown.items():
        yield f"not to be scored on, since learned from, {part}: {', '.join(names)}"


def _problem_lines(checked: Checked) -> Iterator[str]:
    problems = checked.problems
    if not problems.found:
        return
    yield from (f"wrong: {line}" for line in problems.found[:_MOST_LINES])
    more = len(problems.found) - _MOST_LINES
    yield f"wrong: {problems.summary()}" + (f"; {more} of them not shown" if more > 0 else "")


def _document(checked: Checked, overlaps: Sequence[Overlap]) -> dict[str, Any]:
    return {
        "sources": [asdict(one) for one in checked.sources],
        "identity_classes": checked.num_classes,
        "published_identity_classes": checked.num_published,
        "overlaps": [asdict(one) for one in overlaps],
        "problems": {"counts": dict(checked.problems.counts), "found": checked.problems.found},
    }


if __name__ == "__main__":
    main(app, "data")

"""`jde data`: public data sets as lists to train on, and what the sources of a recipe hold.

Also `python -m jobs.data`. Its verbs import what they need when called.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jde_ray.jobs.console.flags import completion
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.runner import CONTEXT, main
from jde_ray.jobs.console.source_tables import document_of, lines_of, problem_lines
from jde_ray.pipelines.data_sets.kinds import KINDS
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.pipelines.data_sets.convert import Converted

app = typer.Typer(
    add_completion=False,
    help="Convert public data sets into lists to train on; check the sources of a recipe.",
    context_settings=CONTEXT,
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        help="\n\n".join(f"{name}: {kind.help}" for name, kind in KINDS.items()),
        autocompletion=completion(tuple(KINDS)),
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

    given = {
        "min_height": min_height,
        "min_visible": min_visible,
        "classes": tuple(classes) if classes else None,
        "box": box,
        "numbering": identities,
    }
    try:
        if name not in KINDS:
            raise ValueError(f"name: got {name!r}, expected {' | '.join(KINDS)}")
        rules = KINDS[name].load().RULES.changed(name, given)
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
    from jde_ray.pipelines.training.recipe_file import read_recipe

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
        print(json.dumps(document_of(checked, overlaps), indent=1))
    else:
        for line in lines_of(checked, overlaps):
            print(line)
        for line in problem_lines(checked.problems):
            print(line, file=sys.stderr)
    is_wrong = bool(checked.problems.found) or any(one.is_wrong for one in overlaps)
    return ExitCode.SOME_FAILED if is_wrong else ExitCode.DONE


if __name__ == "__main__":
    main(app, "data")

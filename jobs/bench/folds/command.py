"""`jde bench folds`: how good a recipe is on scenes that it has not seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jde_ray.jobs.bench.machine import processor
from jde_ray.jobs.bench.models import (
    Entry,
    build_entries,
    build_readers,
    find_pairings,
    run_sequence,
)
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.run_flags import choose
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.folds.plan import Fold
    from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings
    from jde_ray.pipelines.report.tables import FigureTable
    from jde_ray.pipelines.training.recipe import Recipe

REPORT = "folds.json"


@takes(flags=choose("precision", "device"))
def folds(
    config: Annotated[
        list[Path], typer.Option(metavar="FILE.yaml", help="Recipe of jde train, repeatable.")
    ],
    data: Annotated[Path, typer.Option(help="Folder to which the recipes' paths are relative.")],
    out: Annotated[Path, typer.Option(help=f"Folder for the weights and {REPORT}.")],
    fold: Annotated[
        list[str],
        typer.Option(
            metavar="NAME,...",
            help="Sequences of the recipes that are left out together and scored, repeatable.",
        ),
    ],
    chain: Annotated[
        bool,
        typer.Option(
            "--chain",
            help="Start each recipe but the first from the weights of the one before it in the "
            "same fold: train_small_crowds.yaml, then train_base.yaml.",
        ),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each training; overrides the recipes.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Minutes of each training, instead of --steps."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each network.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that augment images.")] = 0,
    every: Annotated[
        int, typer.Option(min=1, help="When scoring, read embeddings in every n-th frame.")
    ] = 3,
    max_frames: Annotated[
        int | None, typer.Option(min=6, help="Frames of each sequence that are scored.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Keep finished trainings and continue interrupted ones, or begin all again.",
        ),
    ] = True,
    *,
    flags: Given,
) -> None:
    """Train recipes without some scenes and score them there: cross-validation by scenes.

    The tables are those of jde bench models; OVERALL pools the sequences of all folds. People are
    told apart by the networks' own vectors alone.
    """
    from jde_ray.jobs.bench.folds.plan import plan
    from jde_ray.pipelines.cluster import Interrupted, interruptible
    from jde_ray.pipelines.training.settings import TrainerConfig

    trainers = TrainerConfig(
        threads=threads, workers=workers, device=flags.get("device", "auto"), resume=resume
    )
    try:
        with interruptible():
            _check_flags(flags)
            recipes = _recipes(config, steps, minutes)
            planned = plan(recipes, fold, data, out, trainers, is_chain=chain)
            find_pairings([path for one in planned for path in one.sequences])  # or refuse now
            facts = _train(planned, out)
            tables = _score(
                planned, list(recipes), {**flags, "threads": threads}, every, max_frames
            )
    except Interrupted as signal:
        again = "the same command" + ("" if resume else " without --no-resume")
        text = f"interrupted; run {again} to continue from {out}"
        raise RunError(text, signal.exit_code) from None
    except FloatingPointError as error:
        raise RunError(str(error), ExitCode.INTERNAL) from error
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    _write(out, tables, facts, {one.name: one.sequences for one in planned})


def _check_flags(flags: Given) -> None:
    """Refuse, before hours of training, what could not be scored."""
    from jde_ray.pipelines.detection.devices import check_gpu

    accepted = ("auto", "fp32", "bf16")
    if (precision := flags.get("precision", "auto")) not in accepted:
        text = f"got {precision}, expected {' | '.join(accepted)}: what was just trained"
        raise ValueError(f"precision: {text} has no file in 8-bit integers")
    check_gpu(flags.get("device", "auto"))


def _recipes(files: list[Path], steps: int | None, minutes: float | None) -> dict[str, Recipe]:
    """The recipes by the names of their files, with another budget if one is given."""
    from jde_ray.pipelines.training.recipe_file import read_recipe

    if steps is not None and minutes is not None:
        raise ValueError("budget: got steps and minutes, expected one of them")
    recipes: dict[str, Recipe] = {}
    for file in files:
        if file.stem in recipes:
            raise ValueError(f"config: two are named {file.stem}, expected different names")
        recipe = read_recipe(file)
        if steps is not None or minutes is not None:
            budget: dict[str, Any] = {"steps": steps, "minutes": minutes, "epochs": None}
            recipe = replace(recipe, training=replace(recipe.training, **budget))
        recipes[file.stem] = recipe
    return recipes


def _train(planned: list[Fold], out: Path) -> dict[str, dict[str, Any]]:
    """Facts of every training, by fold and recipe."""
    for fold in planned:
        for training in fold.trainings.values():
            training.check()  # before hours of training
    trainings = [training for fold in planned for training in fold.trainings.values()]
    minutes = [budget for one in trainings if (budget := one.recipe.training.minutes) is not None]
    if len(minutes) == len(trainings):
        _show(f"jde: trainings: {len(trainings)}, in at most {sum(minutes):g} minutes")
    facts: dict[str, dict[str, Any]] = {}
    for fold in planned:
        facts[fold.name] = {}
        for name, training in fold.trainings.items():
            without = ", ".join(path.name for path in fold.sequences)
            typer.echo(f"jde: {fold.name}, {name}: without {without}", err=True)
            facts[fold.name][name] = training(out / "labels", _show)
    return facts


def _show(line: str) -> None:
    typer.echo(line, err=True)


def _score(
    planned: list[Fold], recipes: list[str], given: Given, every: int, max_frames: int | None
) -> list[FigureTable]:
    """The tables of `jde bench models`, each sequence with the weights of its fold."""
    from jde_ray.jobs.bench.model_tables import Result, build_tables

    results: dict[str, Result] = {name: Result() for name in recipes}
    known: dict[str, dict[str, KnownEmbeddings]] = {name: {} for name in recipes}
    for fold in planned:
        entries = entries_of(fold, given)
        readers = build_readers(entries, [], every, max_frames)
        for pairing in find_pairings(fold.sequences):
            typer.echo(f"jde: {pairing.name}", err=True)
            run_sequence(pairing, entries, results, max_frames, "wall")
            for name, read in readers.items():
                known[name][pairing.name] = read(pairing)
    return build_tables(results, known)


def entries_of(fold: Fold, given: Given) -> dict[str, Entry]:
    """The networks of a fold by the names of their recipes, told apart by their paths."""
    weights = [str(training.weights) for training in fold.trainings.values()]
    built = build_entries(weights, [], given)
    return dict(zip(fold.trainings, built.values(), strict=True))


def _write(
    out: Path, tables: list[FigureTable], facts: dict[str, Any], sequences: dict[str, list[Path]]
) -> None:
    from jde_ray.jobs.console.score_tables import print_table

    report = {
        "machine": processor(),
        "folds": {name: [path.name for path in paths] for name, paths in sequences.items()},
        "trainings": facts,
        **{table.key: table.plain() for table in tables},
    }
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for table in tables:
        print_table(table)
    typer.echo(f"written to {out / REPORT}")

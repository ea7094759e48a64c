"""`jde bench ablation`: the rows of the paper's Table 2, trained and scored alike."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jde_ray.jobs.bench.machine import processor
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.paper.ablation.execution import Execution
    from jde_ray.jobs.bench.paper.ablation.row_run import RowRun
    from jde_ray.jobs.bench.paper.ablation.rows import Row
    from jde_ray.jobs.bench.paper.ablation.search import Pair
    from jde_ray.pipelines.training.recipe import Recipe

SEARCH, TABLE = "search.json", "table2.json"


def ablation(
    config: Annotated[Path, typer.Option(help="Recipe, as jobs/recipes/ablation_small.yaml.")],
    data: Annotated[Path, typer.Option(help="Folder to which its paths are relative.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")],
    rows: Annotated[
        str, typer.Option(metavar="all|NAME,...", help="Rows of Table 2 to do.")
    ] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row.")] = 3,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget of a training.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Budget of a training.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Budget of a training.")] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="NxM",
            help="Search the two weights of App.Opt on a grid, a tenth of the budget each; without "
            "it they are 64 and 0.1, or the recipe's.",
        ),
    ] = None,
    rows_at_once: Annotated[
        int, typer.Option(min=1, help="Trainings at the same time; several are tasks of Ray.")
    ] = 1,
    gpus_per_row: Annotated[float, typer.Option(min=0, help="GPUs of each task.")] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a training.")] = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")
    ] = "auto",
    address: Annotated[
        str | None, typer.Option(help="Ray to run the trainings on as tasks.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Keep the rows that are done.")
    ] = True,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Write the table of the rows that are done.")
    ] = False,
) -> None:
    """The paper's Table 2: embedding losses and weightings, trained and scored alike."""
    from jde_ray.jobs.bench.paper.ablation import rows as choice
    from jde_ray.pipelines.training.recipe_file import read_recipe

    try:
        base = _with_budget(read_recipe(config), steps=steps, epochs=epochs, minutes=minutes)
        chosen = choice.choose(rows)
        _check(base, config)
        if not table_only:
            plan = _Plan(base, data, out, threads, device)
            execute = plan.execution(rows_at_once, address, gpus_per_row)
            plan.check()
            if not resume:
                plan.forget()
            weights = plan.searched(chosen, search, execute) if search is not None else {}
            runs = [
                plan.run(row, seed, weights.get(row.changes["embedding_loss"]))
                for seed in range(seeds)  # all rows once before any of them twice
                for row in chosen
            ]
            execute(runs)
        _write(out, {"recipe": config.name, **_facts(base)})
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error


def _with_budget(recipe: Recipe, **budget: float | None) -> Recipe:
    given = {name: value for name, value in budget.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"budget: got {' and '.join(given)}, expected one of them")
    if given:
        changes: dict[str, Any] = {**dict.fromkeys(budget), **given}
        recipe = replace(recipe, training=replace(recipe.training, **changes))
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    """Refuse a recipe that no row could be made of."""
    if recipe.names.kind != "joint" or recipe.config.score != "softmax":
        text = "expected a network with anchors, as anchor-small"
        raise ValueError(f"network: got {recipe.network}; {text}")
    if recipe.validation is None:
        raise ValueError(f"config: {path} has no `validation`, on whose sequences rows are scored")


class _Plan:
    """The runs of one command."""

    def __init__(self, base: Recipe, data: Path, out: Path, threads: int, device: Any) -> None:
        self.base, self.data, self.out = base, data, out
        self.threads, self.device = threads, device
        self.steps_per_epoch = 1  # known once the images are read

    def check(self) -> None:
        """Refuse initial weights or sequences that do not fit, before anything is read."""
        from jde_ray.pipelines.training.run import TrainingRun

        TrainingRun(
            recipe=self.base, root=self.data, out=str(self.out), num_identities=1, steps_per_epoch=1
        ).check()

    def execution(self, at_once: int, address: str | None, gpus: float) -> Execution:
        """Where the runs take place; the images are read at the first one."""
        from jde_ray.jobs.bench.paper.ablation.execution import Execution
        from jde_ray.pipelines.training.data.image_set import TrainingImages, read_images

        images: list[TrainingImages] = []

        def read() -> TrainingImages:
            if not images:
                images.append(read_images(self.base, self.data, self.out / "labels", show=_show))
            return images[0]

        return Execution(
            read=read,
            show=_show,
            at_once=at_once,
            address=address,
            cpus=self.threads,
            gpus=gpus,
        )

    def run(self, row: Row, seed: int, pair: Pair | None) -> RowRun:
        """A row with a seed, and the weights that were found for its loss."""
        recipe = row.recipe(self.base, seed)
        if pair is not None and recipe.weighting == "fixed":
            recipe = replace(recipe, fixed_weights=pair)
        return self._run(f"{row.name}-{seed}", row.name, seed, recipe)

    def searched(self, rows: list[Row], grid: str, execute: Execution) -> dict[str, Pair]:
        """The best weights of each loss whose row has fixed ones; writes `search.json`."""
        from jde_ray.jobs.bench.paper.ablation import search
        from jde_ray.jobs.bench.paper.ablation.row_run import write_json
        from jde_ray.jobs.bench.paper.ablation.rows import ROWS, losses_with_fixed_weights

        losses, pairs = losses_with_fixed_weights(rows), search.parse_grid(grid)
        steps_per_epoch = 1
        if self.base.training.epochs is not None:
            steps_per_epoch = execute.read().build_set(self.base).steps_per_epoch

        def trial(loss: str, pair: Pair) -> RowRun:
            recipe = ROWS[f"{loss}-fixed"].recipe(self.base, 0)
            training = search.shortened(recipe.training, steps_per_epoch)
            recipe = replace(recipe, training=training, fixed_weights=pair)
            name = f"search/{loss}-{pair[0]:g}-{pair[1]:g}"
            return self._run(name, name, 0, recipe, with_tracks=False)

        found = search.search(pairs, losses, trial, execute)
        write_json(self.out / SEARCH, found)
        for loss, result in found.items():
            _show(f"{loss}: the best weights are {result['best'][0]:g} : {result['best'][1]:g}")
        return {loss: (result["best"][0], result["best"][1]) for loss, result in found.items()}

    def forget(self) -> None:
        """Remove all that was done, so that it is done again."""
        from jde_ray.jobs.bench.paper.ablation.row_run import SCORES
        from jde_ray.jobs.bench.paper.ablation.rows import ROWS

        for name in ROWS:
            for path in self.out.glob(f"{name}-[0-9]*/{SCORES}"):
                shutil.rmtree(path.parent)
        shutil.rmtree(self.out / "search", ignore_errors=True)

    def _run(
        self, name: str, row: str, seed: int, recipe: Recipe, *, with_tracks: bool = True
    ) -> RowRun:
        from jde_ray.jobs.bench.paper.ablation.row_run import RowRun

        assert self.base.validation is not None  # noqa: S101 - checked before
        return RowRun(
            name=name,
            row=row,
            seed=seed,
            recipe=recipe,
            root=self.data,
            out=self.out / name,
            evaluation=self.base.validation,
            with_tracks=with_tracks,
            threads=self.threads,
            device=self.device,
        )


def _facts(recipe: Recipe) -> dict[str, str]:
    """What is the same for all rows."""
    training = recipe.training
    budgets = {"minutes": training.minutes, "epochs": training.epochs, "steps": training.steps}
    (budget,) = (f"{value:g} {name}" for name, value in budgets.items() if value is not None)
    return {
        "budget": f"{budget} of {training.batch} images",
        "machine": processor(),
        "revision": _revision(),
    }


def _revision() -> str:
    """Commit of the code; its version, if it is not a checkout."""
    from jde_ray.pipelines.config import VERSION

    git = shutil.which("git")
    if git is None:
        return VERSION
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or VERSION


def _write(out: Path, facts: dict[str, Any]) -> None:
    from jde_ray.jobs.bench.paper.ablation import tables

    if (out / SEARCH).is_file():
        facts["search"] = json.loads((out / SEARCH).read_text(encoding="utf-8"))
    table = tables.gather(out, facts)
    if not table["rows"]:
        raise ValueError(f"out: {out} has no row that is done")
    files = tables.write(out, table)
    typer.echo(tables.markdown(table))
    typer.echo(f"wrote {', '.join(str(file) for file in files)}")


_show: Callable[[str], None] = typer.echo

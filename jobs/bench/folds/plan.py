"""What `jde bench folds` trains: each recipe once for every fold, without the fold's scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jde_ray.jobs.bench.folds.fold_training import FoldTraining
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import TrainerConfig


@dataclass(frozen=True)
class Fold:
    """Sequences that are left out together.

    Attributes:
        name: Name of its folder.
        sequences: Folders of the sequences that score what was trained without them.
        trainings: Trainings by the name of their recipe, in this order.
    """

    name: str
    sequences: list[Path]
    trainings: dict[str, FoldTraining]


def plan(
    recipes: dict[str, Recipe],
    folds: Sequence[str],
    root: Path,
    out: Path,
    trainers: TrainerConfig,
    *,
    is_chain: bool = False,
) -> list[Fold]:
    """All trainings, checked before the first one begins.

    Args:
        recipes: Recipes by name.
        folds: Names of each fold's sequences, with commas between them.
        root: Folder to which the recipes' paths are relative.
        out: Folder of the results.
        trainers: Threads, device and other settings of a training.
        is_chain: Start each recipe but the first from the weights of the one before it.

    Raises:
        ValueError: If a name is unknown or in two folds, or a recipe is not of a joint network.
    """
    for name, recipe in recipes.items():
        if recipe.names.kind != "joint":
            raise ValueError(
                f"config: {name} trains {recipe.network}, expected a network that gives boxes and "
                "embeddings"
            )
    named = [[name.strip() for name in fold.split(",")] for fold in folds]
    every = [name for names in named for name in names]
    for name in every:
        if every.count(name) > 1:
            raise ValueError(f"fold: got {name} twice, expected each sequence once")
    planned = []
    for number, names in enumerate(named, 1):
        trainings: dict[str, FoldTraining] = {}
        initial: Path | None = None
        for name, recipe in recipes.items():
            own = recipe.without(names)
            if initial is not None:
                own = replace(own, initial=str(initial.absolute()))
            own = replace(own, validation=None)  # scored at the end, all recipes alike
            folder = out / f"fold-{number}" / name
            trainings[name] = FoldTraining(recipe=own, root=root, out=folder, trainers=trainers)
            initial = trainings[name].weights if is_chain else None
        first = next(iter(recipes.values()))
        sequences = [_sequence(first, name, root) for name in names]
        planned.append(Fold(f"fold-{number}", sequences, trainings))
    return planned


def _sequence(recipe: Recipe, name: str, root: Path) -> Path:
    """Folder of a sequence that a recipe names by its path or the last part of it."""
    paths = [s.path for s in recipe.sources if s.kind == "sequence" and name in (s.path, s.name)]
    if len(paths) != 1:
        known = ", ".join(s.name for s in recipe.sources if s.kind == "sequence")
        got = "two sources have this name" if paths else "it is no sequence of the recipe"
        raise ValueError(f"fold: got {name}, {got}; expected some of {known}")
    return root / paths[0]

"""What `jde bench folds` trains: each recipe once for every fold, without the fold's scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from jde_ray.jobs.bench.folds.fold_training import FoldTraining
from jde_ray.models.jde.weights import metadata
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
    recipes: Mapping[str, Recipe],
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
        ValueError: If a name is unknown or in two folds, a recipe is not of a joint network, or it
            would learn from what scores it.
    """
    for name, recipe in recipes.items():
        if recipe.names.kind != "joint":
            raise ValueError(
                f"config: {name} trains {recipe.network}, expected a network that gives boxes and "
                "embeddings"
            )
    planned: list[Fold] = []
    taken: set[str] = set()
    for number, fold in enumerate(folds, 1):
        paths: list[str] = []
        trainings: dict[str, FoldTraining] = {}
        before: FoldTraining | None = None
        for name, recipe in recipes.items():
            paths = [_path(name, recipe, one.strip()) for one in fold.split(",")]
            own = _without(name, recipe, paths)
            if before is None or not is_chain:
                _check_start(name, own, root, paths)
            training = FoldTraining(
                recipe=replace(own, validation=None),  # all are scored alike, at the end
                root=root,
                out=out / f"fold-{number}" / name,
                trainers=trainers,
                before=before if is_chain else None,
            )
            trainings[name] = before = training
        for path in paths:
            if path in taken:
                raise ValueError(f"fold: got {path} twice, expected each sequence once")
            taken.add(path)
        planned.append(Fold(f"fold-{number}", [root / path for path in paths], trainings))
    return planned


def _path(recipe_name: str, recipe: Recipe, name: str) -> str:
    """Path of a sequence that a recipe names by its path or the last part of it."""
    sequences = [source for source in recipe.sources if source.kind == "sequence"]
    paths = [source.path for source in sequences if name in (source.path, source.name)]
    if len(paths) != 1:
        known = ", ".join(source.path for source in sequences) or "a recipe with sequences"
        got = "two sequences have this name" if paths else f"it is no sequence of {recipe_name}"
        raise ValueError(f"fold: got {name or 'an empty name'}, {got}; expected some of {known}")
    return paths[0]


def _without(recipe_name: str, recipe: Recipe, paths: Sequence[str]) -> Recipe:
    """The recipe without these sequences and all that shows their scenes."""
    try:
        own = recipe.without(paths)
    except ValueError as error:
        raise ValueError(f"fold: {recipe_name} without {', '.join(paths)}: {error}") from error
    names = {PurePosixPath(path).name: path for path in paths}
    for source in own.sources:
        if source.name in names:
            raise ValueError(
                f"fold: {recipe_name} would still learn from {source.path}, which is named like "
                f"{names[source.name]}; give both the same `scene`, or one another name"
            )
    return own


def _check_start(recipe_name: str, recipe: Recipe, root: Path, paths: Sequence[str]) -> None:
    """Refuse to start from weights of ours that have learned from what scores the recipe."""
    if recipe.initial is None or not recipe.initial.endswith(".safetensors"):
        return
    start = root / recipe.initial
    if not start.is_file():
        return  # refused with a reason when the training is checked
    learned = {text.strip() for text in metadata(start).get("sources", "").split(",")}
    seen = [path for path in paths if learned & {path, PurePosixPath(path).name}]
    if seen:
        raise ValueError(
            f"config: {recipe_name} starts from {start}, which has learned from {seen[0]}; "
            "expected --chain, or weights that have not"
        )

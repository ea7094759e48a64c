"""Reads all images of a recipe, adds teachers' labels and numbers the identities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jde_ray.pipelines.formats.label_files import LabelErrors
from jde_ray.pipelines.training.data.batches import TrainingSet
from jde_ray.pipelines.training.data.labelled_image import (
    TrainingImage,
    tell_apart,
    with_unique_identities,
)
from jde_ray.pipelines.training.data.sources import read_source
from jde_ray.pipelines.training.data.teaching import add_teacher_labels, project_appearance
from jde_ray.pipelines.training.recipe import Recipe


@dataclass(frozen=True)
class TrainingImages:
    """All images of a recipe's sources, with their labels.

    Attributes:
        images: Images of all sources, in the order of the recipe.
        num_identities: Classes of the identity loss (`with_unique_identities`).
        problems: Rows and files that were left out.
    """

    images: list[TrainingImage]
    num_identities: int
    problems: LabelErrors

    @property
    def num_people(self) -> int:
        """Boxes of people, without ignored ones."""
        return sum(int((~image.ignore).sum()) for image in self.images)

    def build_set(self, recipe: Recipe, *, skip_bad: bool = False) -> TrainingSet:
        """The stream of batches for a recipe."""
        return TrainingSet(
            self.images,
            [source.weight for source in recipe.sources],
            recipe.crop_groups,
            size=recipe.input_size,
            aspects=recipe.aspects,
            batch=recipe.training.batch,
            augmentation=recipe.augmentation,
            collage_share=recipe.collage_share,
            sampling=recipe.sampling,
            seed=recipe.training.seed,
            skip_bad=skip_bad,
        )


def read_images(
    recipe: Recipe,
    root: Path,
    cache: Path | None,
    *,
    skip_bad: bool = False,
    show: Callable[[str], None] = lambda line: None,
) -> TrainingImages:
    """Read every source, add the labels of teachers, number the identities.

    Args:
        recipe: Recipe with the sources and teachers.
        root: Folder to which its paths are relative.
        cache: Folder for the teachers' labels, which take minutes to compute; None uses no teacher.
        skip_bad: Leave out wrong rows and images; otherwise one of them stops the training.
        show: Called with one line per source.

    Raises:
        BadDataError: If rows are wrong, naming the first ones with file and line.
        ValueError: If a source or a teacher is missing, or no picture shows people.
    """
    problems = LabelErrors()
    groups: list[list[TrainingImage]] = []
    for index, source in enumerate(recipe.sources):
        images = read_source(root, source, index, recipe.longest_side, problems)
        people = sum(int((~image.ignore).sum()) for image in images)
        show(f"{source.kind} {source.path}: {len(images)} images, {people} boxes")
        groups.append(images)
    if not skip_bad:
        problems.refuse()
    if cache is not None:
        groups = [
            add_teacher_labels(recipe, source, group, root, cache)
            for source, group in zip(recipe.sources, groups, strict=True)
        ]
    if not recipe.names.from_crops:  # a network of crops learns distances, of any width
        fixed = [source.kind in ("boxes", "crops") for source in recipe.sources]
        groups = project_appearance(groups, fixed, recipe.teacher_width)
    groups = [
        tell_apart(group) if source.strangers else group
        for source, group in zip(recipe.sources, groups, strict=True)
    ]
    declared = [source.identities for source in recipe.sources]
    numbered, count = with_unique_identities(groups, declared)
    found = TrainingImages(numbered, count, problems)
    if not found.num_people and (cache is not None or not recipe.detector_teacher):
        text = f"got {len(numbered)} pictures without people, expected people to learn from"
        raise ValueError(f"training data: {text}")
    return found

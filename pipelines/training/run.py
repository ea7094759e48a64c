"""Settings of one training that all its processes share: recipe, folders and trainers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from jde_ray.models.jde.importers import published_classifier
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import forget
from jde_ray.pipelines.training.kinds.registry import build_network, initialise, kind_of
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.schedule import Schedule
from jde_ray.pipelines.training.settings import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Settings of a training that every process receives; they do not include the images.

    Attributes:
        recipe: Network, sources, losses and budget.
        root: Folder to which the recipe's paths are relative.
        out: Folder or `s3://` prefix of the result; empty for a plan.
        num_identities: Number of identities in the images.
        num_boxes: Number of people in the images; of crops, for a network of crops.
        steps_per_epoch: Steps in a pass over the images.
        trainers: Number, device and other settings of the trainers.
    """

    recipe: Recipe
    root: Path
    out: str
    num_identities: int
    steps_per_epoch: int
    num_boxes: int = 0
    trainers: TrainerConfig = field(default_factory=TrainerConfig)

    @property
    def schedule(self) -> Schedule:
        """Budget and learning rates."""
        return Schedule(self.recipe.training, self.steps_per_epoch)

    @property
    def notes(self) -> dict[str, str]:
        """Metadata of the weight files."""
        sources = ", ".join(source.path or source.kind for source in self.recipe.sources)
        return {
            "licence": self.recipe.licence,
            "sources": sources,
            "boxes": str(self.num_boxes),
            "identities": str(self.num_identities if self.recipe.names.learns_identities else 0),
        }

    def check(self) -> None:
        """Refuse settings that would fail only after the start.

        Raises:
            ValueError: If a path of the recipe, or `out`, cannot be used.
        """
        if self.out:  # a plan has none
            open_store(self.out)
        self.recipe.check_unseen()
        model = build_network(self.recipe)
        if self.recipe.initial:
            initialise(model, self.root / self.recipe.initial)
        kind_of(model).build_loss(model, self.recipe, self.num_identities, self.classifier())
        if self.recipe.validation is not None:
            from jde_ray.pipelines.training.validation import Validation  # imports Ray and PyAV

            Validation(self.recipe.validation, self.root)

    def begin(self) -> None:
        """Remove a checkpoint that the run does not resume from; called once, at the start."""
        if not self.trainers.resume:
            forget(open_store(self.out))

    def classifier(self) -> dict[str, torch.Tensor] | None:
        """Initial `weight` and `bias` of the identity loss; None for random ones.

        Raises:
            ValueError: If the published checkpoint has no such classifier.
        """
        recipe = self.recipe
        if not (recipe.initial and recipe.initial_classifier):
            return None
        path, width = self.root / recipe.initial, recipe.config.embedding_dim
        return published_classifier(path, self.num_identities, width)

"""One training without the scenes of a fold. Finished ones are kept, interrupted ones continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jde_ray.jobs.bench.paper.ablation.row_run import write_json
from jde_ray.jobs.bench.paper.ablation.rows import fingerprint
from jde_ray.models.jde.weights import sha256
from jde_ray.pipelines.detection.devices import torch_device
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import WEIGHTS, forget, step_done
from jde_ray.pipelines.training.data.image_set import read_images
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.settings import TrainerConfig
from jde_ray.pipelines.training.trainer import train_here

FACTS = "training.json"


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """A training of a recipe that lacks a fold's sources.

    Attributes:
        recipe: What is learned.
        root: Folder to which its paths are relative.
        out: Folder of the weights.
        trainers: Threads, device and whether to continue from a checkpoint.
        before: Training whose weights this one starts from; None for the recipe's own start.
    """

    recipe: Recipe
    root: Path
    out: Path
    trainers: TrainerConfig
    before: FoldTraining | None = None

    @property
    def weights(self) -> Path:
        """The file that it writes."""
        return self.out / WEIGHTS

    def check(self) -> None:
        """Refuse a folder that holds another training.

        Raises:
            ValueError: If it does.
        """
        facts = self._facts()
        if self.trainers.resume and facts and facts.get("recipe") != fingerprint(self.recipe):
            text = "is of another recipe or budget; name another --out, or give --no-resume"
            raise ValueError(f"out: {self.out / FACTS} {text}")

    def __call__(self, labels: Path, show: Callable[[str], None]) -> dict[str, Any]:
        """Train unless that has been done.

        Args:
            labels: Folder for the teachers' labels, which all trainings share.
            show: Called with lines of progress.

        Returns:
            `recipe` (a fingerprint), `images`, `steps`, and `seconds` of the training.

        Raises:
            ValueError: If sources or weights cannot be used.
            NonFiniteLossError: If the loss is no longer finite.
        """
        self.check()
        facts = self._facts()
        start = "" if self.before is None else sha256(self.before.weights)
        same_start = facts.get("start", "") == start
        if self.trainers.resume and same_start and "steps" in facts and self.weights.is_file():
            return facts
        trainers = replace(self.trainers, resume=self.trainers.resume and same_start)
        recipe = self.recipe
        if self.before is not None:
            recipe = replace(recipe, initial=str(self.before.weights.absolute()))
        images = read_images(recipe, self.root, labels, show=show)
        stream = images.build_set(recipe)
        run = TrainingRun(
            recipe=recipe,
            root=self.root,
            out=str(self.out),
            num_identities=images.num_identities,
            num_boxes=images.num_people,
            steps_per_epoch=stream.steps_per_epoch,
            trainers=trainers,
        )
        run.check()
        facts = {"recipe": fingerprint(self.recipe), "start": start, "images": len(images.images)}
        write_json(self.out / FACTS, facts)  # before the first checkpoint, which does not name it
        store = open_store(str(self.out))
        before, began = step_done(store) if trainers.resume else 0, time.monotonic()
        train_here(run, stream, device=torch_device(trainers.device), show=show)
        facts |= {"steps": step_done(store), "seconds": round(time.monotonic() - began, 1)}
        if before:
            facts["resumed_after"] = before  # then the seconds are those of the rest
        write_json(self.out / FACTS, facts)
        forget(store)  # a checkpoint is three times as large as the weights
        return facts

    def _facts(self) -> dict[str, Any]:
        """What the folder says of its training; empty for none."""
        path = self.out / FACTS
        facts: dict[str, Any] = {}
        if path.is_file():
            facts = json.loads(path.read_text(encoding="utf-8"))
        return facts

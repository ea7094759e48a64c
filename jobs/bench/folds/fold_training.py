"""One training without the scenes of a fold; one that was interrupted goes on, a done one stays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jde_ray.jobs.bench.paper.ablation.row_run import write_json
from jde_ray.jobs.bench.paper.ablation.rows import fingerprint
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import WEIGHTS, forget, step_done
from jde_ray.pipelines.training.data.image_set import read_images
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.settings import TrainerConfig
from jde_ray.pipelines.training.trainer import train_here

TRAINED = "trained.json"


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """A recipe without a fold's sources.

    Attributes:
        recipe: What is learned.
        root: Folder to which its paths are relative.
        out: Folder of the weights.
        trainers: Threads, device and whether to go on from a checkpoint.
    """

    recipe: Recipe
    root: Path
    out: Path
    trainers: TrainerConfig

    @property
    def weights(self) -> Path:
        """The file that it writes."""
        return self.out / WEIGHTS

    def done(self) -> dict[str, Any] | None:
        """Facts of a training that has ended; None for one to be done.

        Raises:
            ValueError: If the folder holds that of another recipe.
        """
        path = self.out / TRAINED
        if not self.trainers.resume or not path.is_file():
            return None
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if facts.get("recipe") != fingerprint(self.recipe):
            text = "is of another recipe or budget; name another --out, or give --no-resume"
            raise ValueError(f"out: {path} {text}")
        return facts

    def __call__(self, labels: Path, show: Callable[[str], None]) -> dict[str, Any]:
        """Train, unless that is done.

        Args:
            labels: Folder for the teachers' labels, which all trainings share.
            show: Called with lines of progress.

        Returns:
            `recipe` (a fingerprint), `images`, `steps`, `seconds` of the training.

        Raises:
            ValueError: If sources or weights cannot be used.
            NonFiniteLossError: If the loss is no longer finite.
        """
        facts = self.done()
        if facts is not None:
            return facts
        (self.out / TRAINED).unlink(missing_ok=True)
        images = read_images(self.recipe, self.root, labels, show=show)
        stream = images.build_set(self.recipe)
        run = TrainingRun(
            recipe=self.recipe,
            root=self.root,
            out=str(self.out),
            num_identities=images.num_identities,
            num_boxes=images.num_people,
            steps_per_epoch=stream.steps_per_epoch,
            trainers=self.trainers,
        )
        run.check()
        store = open_store(str(self.out))
        before, began = step_done(store) if self.trainers.resume else 0, time.monotonic()
        train_here(run, stream, device=_device(self.trainers.device), show=show)
        facts = {
            "recipe": fingerprint(self.recipe),
            "images": len(images.images),
            "steps": step_done(store),
            "seconds": round(time.monotonic() - began, 1),
        }
        if before:
            facts["resumed_after"] = before  # then the seconds are those of the rest
        write_json(self.out / TRAINED, facts)
        forget(store)  # a checkpoint is three times as large as the weights
        return facts


def _device(wanted: str) -> str:
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"

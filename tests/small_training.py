"""A training of two epochs with one step each, without images of its own."""

from __future__ import annotations

from pathlib import Path

from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.settings import TrainerConfig


def run(out: Path, resume: bool = True) -> TrainingRun:
    recipe = parse_recipe(
        {
            "network": "small-shufflenet",
            "sources": [{"kind": "boxes", "path": "park"}],
            "training": {"epochs": 2, "batch": 2, "precision": "fp32"},
        }
    )
    return TrainingRun(
        recipe=recipe,
        root=out,
        out=str(out),
        num_identities=2,
        steps_per_epoch=1,
        trainers=TrainerConfig(resume=resume),
    )

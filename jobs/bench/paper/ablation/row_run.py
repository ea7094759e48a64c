"""Trains and scores one row with one seed, in this process or in a task of Ray."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jde_ray.jobs.bench.paper.ablation.rows import fingerprint
from jde_ray.jobs.bench.paper.ablation.scores import final_weights, score
from jde_ray.pipelines.config import Device
from jde_ray.pipelines.detection.devices import check_gpu, torch_device
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import WEIGHTS, forget, step_done
from jde_ray.pipelines.training.curves import CURVES, read_table
from jde_ray.pipelines.training.data.image_set import TrainingImages
from jde_ray.pipelines.training.loop import NonFiniteLossError
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.settings import TrainerConfig, ValidationConfig
from jde_ray.pipelines.training.trainer import train_here

SCORES = "scores.json"


@dataclass(frozen=True, kw_only=True)
class RowRun:
    """A training with its evaluation.

    Attributes:
        name: Name of its folder below the table's.
        row: Name of the row.
        seed: Number of the seed, from 0.
        recipe: The row's recipe.
        root: Folder to which the recipe's paths are relative.
        out: Folder of this run.
        evaluation: What it is scored on.
        with_tracks: Whether it is tracked too.
        threads: CPU threads.
        device: Where the network runs; `auto` takes a GPU if there is one.
    """

    name: str
    row: str
    seed: int
    recipe: Recipe
    root: Path
    out: Path
    evaluation: ValidationConfig
    with_tracks: bool = True
    threads: int = 1
    device: Device = "auto"

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe and with what the run is scored on."""
        return f"{fingerprint(self.recipe)}-{fingerprint(self.evaluation)}"

    def done(self) -> dict[str, Any] | None:
        """The scores of a run that has ended, None for one to be done.

        Raises:
            ValueError: If the folder holds those of another recipe.
        """
        path = self.out / SCORES
        if not path.is_file():
            return None
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if scores.get("fingerprint") != self.fingerprint:
            text = "is of another recipe or evaluation; name another --out, or give --no-resume"
            raise ValueError(f"out: {path} {text}")
        return scores

    def forget(self) -> None:
        """Remove scores and checkpoint, so that the run is done again."""
        (self.out / SCORES).unlink(missing_ok=True)
        forget(open_store(str(self.out)))


def do(run: RowRun, images: TrainingImages, show: Callable[[str], None]) -> dict[str, Any]:
    """Train, score, and write `scores.json`; a training that is there in part goes on.

    If the loss, or the output of the trained network, is not finite, the scores are a reason under
    `diverged`.

    Args:
        run: Row and seed.
        images: Images of the recipe's sources, the same for all rows.
        show: Called with each line of the training.

    Raises:
        ValueError: If it is to run on a GPU and there is none.
    """
    torch.set_num_threads(run.threads)
    check_gpu(run.device)
    device = torch_device(run.device)
    stream = images.build_set(run.recipe)
    training = TrainingRun(
        recipe=run.recipe,
        root=run.root,
        out=str(run.out),
        num_identities=images.num_identities,
        steps_per_epoch=stream.steps_per_epoch,
        trainers=TrainerConfig(threads=run.threads, workers=0),
    )
    scores: dict[str, Any] = {"row": run.row, "seed": run.seed, "fingerprint": run.fingerprint}
    began, used = time.monotonic(), time.process_time()
    store = open_store(str(run.out))
    before = step_done(store)
    try:
        train_here(training, stream, device=device, show=show)
        scores["steps"] = step_done(store)
        scores["training_s"] = round(time.monotonic() - began, 1)
        scores |= score(
            run.out / WEIGHTS,
            run.evaluation,
            run.root,
            device=device,
            threads=run.threads,
            with_tracks=run.with_tracks,
        )
    except (NonFiniteLossError, FloatingPointError) as error:
        scores["diverged"] = str(error)
    scores["seconds"] = round(time.monotonic() - began, 1)
    scores["cpu_seconds"] = round(time.process_time() - used, 1)
    if before:
        scores["resumed_after"] = before  # then the seconds are those of the rest
    scores["weights"] = final_weights(read_table(store, CURVES))
    write_json(run.out / SCORES, scores)
    forget(store)  # a checkpoint is three times as large as the weights
    return scores


def do_as_task(run: RowRun, images: TrainingImages) -> dict[str, Any]:
    """`do` for Ray, whose worker writes the lines of the training into `training.log`."""
    run.out.mkdir(parents=True, exist_ok=True)
    with (run.out / "training.log").open("a", encoding="utf-8") as log:
        return do(run, images, lambda line: print(line, file=log, flush=True))


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)

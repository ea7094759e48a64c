"""A training from a recipe: sets up the network, its initial weights and its validation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from jde_ray.models.jde.importers import published_classifier
from jde_ray.models.jde.network import JDE
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import forget
from jde_ray.pipelines.training.data.batches import Batch, TrainingSet, collate
from jde_ray.pipelines.training.initialization import describe, initialise
from jde_ray.pipelines.training.loop import Batches, fit
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.schedule import TrainingPlan
from jde_ray.pipelines.training.validation import Validation

OUTLIVES_SECONDS = 20.0  # that a worker keeps running after SIGTERM


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Settings of a training that every process receives; they do not include the images.

    Attributes:
        recipe: Network, sources, losses and budget.
        root: Folder to which the recipe's paths are relative.
        out: Folder or `s3://` prefix of the result.
        num_identities: Number of identities in the images.
        steps_per_epoch: Steps per pass over the images.
        threads: Number of CPU threads of torch.
        resume: Continue from the checkpoint in `out`, if there is one. Otherwise it is removed
            once, before the first step, so that a restarted group continues from its own.
    """

    recipe: Recipe
    root: Path
    out: str
    num_identities: int
    steps_per_epoch: int
    threads: int = 1
    resume: bool = True

    def check(self) -> None:
        """Refuse settings that would fail only after the start.

        Raises:
            ValueError: If a path of the recipe, or `out`, cannot be used.
        """
        open_store(self.out)
        if self.recipe.initial:
            initialise(JDE(self.recipe.config), self.root / self.recipe.initial)
        self._classifier()
        if self.recipe.validation is not None:
            Validation(self.recipe.validation, self.root)

    def begin(self) -> None:
        """Remove a checkpoint that the run does not resume from; called once, at the start."""
        if not self.resume:
            forget(open_store(self.out))

    def _classifier(self) -> dict[str, torch.Tensor] | None:
        recipe = self.recipe
        if not (recipe.initial and recipe.initial_classifier):
            return None
        path, width = self.root / recipe.initial, recipe.config.embedding_dim
        return published_classifier(path, self.num_identities, width)

    def train(
        self, batches: Batches, ranks: ProcessGroup, show: Callable[[str], None] = lambda line: None
    ) -> None:
        """Train in this process; arguments are those of `pipelines.training.loop.fit`.

        Raises:
            NonFiniteLossError: If the loss is no longer finite.
            ValueError: If the checkpoint or the initial weights do not fit.
        """
        torch.set_num_threads(self.threads)
        recipe = self.recipe
        torch.manual_seed(recipe.training.seed)
        model = JDE(recipe.config)
        if recipe.initial:
            initialise(model, self.root / recipe.initial)
        if ranks.rank == 0:
            show(describe(recipe.config, model))
        plan = TrainingPlan(
            config=recipe.training,
            num_identities=self.num_identities,
            steps_per_epoch=self.steps_per_epoch,
            embedding_loss=recipe.embedding_loss,
            weighting=recipe.weighting,
            margin=recipe.margin,
            validation=recipe.validation,
            notes={
                "licence": recipe.licence,
                "sources": ", ".join(s.path or s.kind for s in recipe.sources),
            },
            classifier=self._classifier(),
        )
        validation = recipe.validation and Validation(recipe.validation, self.root)
        fit(
            model,
            plan,
            batches,
            open_store(self.out),
            ranks=ranks,
            validate=validation or None,
            show=show,
        )


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """Replace the trainer's handlers of SIGINT and SIGTERM, which forked workers inherit.

    Service managers and `kill` by name send SIGTERM to all processes at once. A worker survives it
    for some seconds, in which the trainer writes its checkpoint and ends the worker. Batches of a
    worker that has ended cannot be read, and if a signal kills one, torch raises an error in the
    trainer.
    """

    def end_later(*_: object) -> None:
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, OUTLIVES_SECONDS)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, end_later)


def train_here(
    run: TrainingRun,
    images: TrainingSet,
    *,
    workers: int,
    device: str,
    show: Callable[[str], None] = lambda line: None,
) -> None:
    """Train in this process, with `workers` processes that augment images.

    Errors are those of `TrainingRun.train`.
    """
    # The same number as in forked workers: changing it there would wait forever for threads of
    # OpenCV that do not exist after the fork.
    cv2.setNumThreads(1)

    def batches(first_step: int) -> Iterator[tuple[int, Batch]]:
        images.first_step = first_step
        loader = torch.utils.data.DataLoader(
            images,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            collate_fn=collate,
            worker_init_fn=_leave_signals_to_the_trainer,
        )
        try:
            yield from enumerate(iter(loader), first_step)
        except ValueError as error:  # that of a worker contains its traceback
            reason = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
            raise ValueError(reason) from None
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            reason = " ".join(str(error).split())
            raise RunError(
                f"training: a process that augments died ({reason}); run the same "
                f"command to continue from {run.out}",
                ExitCode.INTERNAL,
            ) from None

    run.begin()
    run.train(batches, ProcessGroup(device), show)

"""A trainer, one process of a training; and a training in a single process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import torch

from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.torch_setup import set_up_torch
from jde_ray.pipelines.training.data.batches import Batch, TrainingSet, collate
from jde_ray.pipelines.training.data.crop_batches import CropStream
from jde_ray.pipelines.training.data.track_pieces import PieceStream
from jde_ray.pipelines.training.kinds.kind import Network
from jde_ray.pipelines.training.kinds.registry import build_network, describe, initialise
from jde_ray.pipelines.training.loop import Batches, fit
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.run import TrainingRun

OUTLIVES_SECONDS = 20.0  # time that a worker survives SIGTERM


def train_share(
    run: TrainingRun,
    batches: Batches,
    ranks: ProcessGroup,
    show: Callable[[str], None] = lambda line: None,
    prepare: Callable[[Network], None] = lambda model: None,
) -> None:
    """Train this process's share; arguments as for `pipelines.training.loop.fit`.

    Args:
        run: See there.
        batches: See there.
        ranks: See there.
        show: See there.
        prepare: Gives the network what it takes from the data, after its initial weights.

    Raises:
        NonFiniteLossError: If the loss is no longer finite.
        ValueError: If the checkpoint or the initial weights do not fit.
    """
    set_up_torch(run.trainers.threads)
    recipe = run.recipe
    torch.manual_seed(recipe.training.seed)
    model = build_network(recipe)
    if recipe.initial:
        initialise(model, run.root / recipe.initial)
    prepare(model)
    if ranks.rank == 0:
        show(describe(model))
    validation = None
    if recipe.validation is not None:
        from jde_ray.pipelines.training.validation import Validation  # imports Ray and PyAV

        validation = Validation(recipe.validation, run.root, show)
    fit(model, run, batches, ranks=ranks, validate=validation, show=show)


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """Replace the signal handlers that a forked worker inherits from the trainer.

    Service managers and `kill` by name send SIGTERM to all processes at once. A worker survives it
    for some seconds, in which the trainer writes its checkpoint and ends the worker. If the worker
    ended first, its batches could not be read, and torch would raise an error in the trainer.
    """

    def end_later(*_: object) -> None:
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, OUTLIVES_SECONDS)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, end_later)


def train_here(
    run: TrainingRun,
    images: TrainingSet | CropStream | PieceStream,
    *,
    device: str,
    show: Callable[[str], None] = lambda line: None,
) -> None:
    """Train in this process, with batches from `TrainerConfig.workers` further processes.

    Crops lie on the device, which makes their views itself, and pieces of tracks are few numbers,
    so that their batches need no process.

    Raises the errors of `train_share`.
    """
    ranks = ProcessGroup(device)
    run.begin()
    if isinstance(images, CropStream):
        train_share(run, images.to(ranks.device).from_step, ranks, show)
        return
    if isinstance(images, PieceStream):
        train_share(run, images.from_step, ranks, show, images.prepare)
        return
    train_share(run, partial(_load, images, run, pinned=device == "cuda"), ranks, show)


def _load(
    images: TrainingSet, run: TrainingRun, first_step: int, *, pinned: bool
) -> Iterator[tuple[int, Batch]]:
    """Batches from a step on, made by processes of their own."""
    workers = run.trainers.workers
    # The number that forked workers set: if it differed, a worker would wait forever for OpenCV's
    # threads, which the fork does not copy.
    cv2.setNumThreads(1)
    loader = torch.utils.data.DataLoader(
        images.from_step(first_step),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pinned,
        collate_fn=collate,
        worker_init_fn=_leave_signals_to_the_trainer,
    )
    try:
        yield from enumerate(iter(loader), first_step)
    except ValueError as error:  # a worker's error contains its whole traceback
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

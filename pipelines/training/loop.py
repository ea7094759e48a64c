"""The training loop, for one or several processes: schedule, steps, checkpoints, curves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from jde_ray.pipelines.config import Device
from jde_ray.pipelines.detection.precision import quick_precision, warn_of_emulation
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import (
    BEST,
    MovingAverage,
    TrainingState,
    build_optimiser,
)
from jde_ray.pipelines.training.curves import (
    CURVES,
    VALIDATION,
    LiveTable,
    Span,
    Table,
    goodness,
    headline,
)
from jde_ray.pipelines.training.data.batches import Batch
from jde_ray.pipelines.training.data.crop_batches import CropBatch
from jde_ray.pipelines.training.data.track_pieces import PieceBatch
from jde_ray.pipelines.training.kinds.kind import Loss, Network
from jde_ray.pipelines.training.kinds.registry import kind_of
from jde_ray.pipelines.training.plot import plot_curves
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.tensorboard import EventFile

CHECKPOINT_SECONDS = 120.0
LOG_STEPS, LOG_SECONDS = 20, 10.0  # a row of the curves is written after either
EVERY_STEP = 200  # steps at the start with a row each: the paper's Figure 3 moves most there
REPORT_STEPS = 5 * LOG_STEPS  # all processes wait for each other

AnyBatch = Batch | CropBatch | PieceBatch
Batches = Callable[[int], Iterator[tuple[int, AnyBatch]]]  # first step -> steps and their batches
Scores = Mapping[str, Mapping[str, float]]  # by sequence, `OVERALL` last


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient is NaN or infinite; names the step and the files of the batch."""


def fit(
    model: Network,
    run: TrainingRun,
    batches: Batches,
    *,
    ranks: ProcessGroup | None = None,
    validate: Callable[[Any], Scores] | None = None,
    show: Callable[[str], None] = lambda line: None,
) -> Network:
    """Train until the budget is spent; the moving average is the result.

    A checkpoint in `run.out` is continued; `TrainingRun.begin` removes an unwanted one. `run.out`
    receives `latest.pt` (to resume, tensors only), `weights.safetensors` (the moving
    average), `curves.csv` and `validation.csv`, every two minutes, after each epoch and at the end,
    and `curves.png` at the end.

    Args:
        model: Initial weights.
        run: Recipe and `out`, into which only process 0 writes.
        batches: Batches from a given step on; endless, or until the epochs end.
        ranks: The processes that train together.
        validate: Scores a network on sequences left out.
        show: Called with each line of the live table.

    Raises:
        NonFiniteLossError: If the loss is no longer finite, naming step and files.
        ValueError: If the checkpoint belongs to another configuration.
    """
    loop = _Loop(model, run, ranks or ProcessGroup(), validate, show)
    loop.resume()
    try:
        loop.train(batches)
    except KeyboardInterrupt:
        loop.keep()
        if loop.ranks.rank == 0:
            show(f"saved step {loop.state.step}")
        raise
    loop.finish()
    return loop.state.average.model


class _Loop:
    """One call of `fit`: state, clock and reports."""

    def __init__(
        self,
        model: Network,
        run: TrainingRun,
        ranks: ProcessGroup,
        validate: Callable[[Any], Scores] | None,
        show: Callable[[str], None],
    ) -> None:
        recipe, config = run.recipe, run.recipe.training
        torch.manual_seed(config.seed)
        self.config, self.schedule, self.notes = config, run.schedule, run.notes
        self.store, self.ranks, self.show = open_store(run.out), ranks, show
        self.validation = recipe.validation
        self.validate = validate if ranks.rank == 0 else None
        model = model.train().to(ranks.device, memory_format=torch.channels_last)
        for module in model.modules():
            if config.freeze_norms and isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        kind = kind_of(model)
        built = kind.build_loss(model, recipe, run.num_identities, run.classifier())
        loss: Loss = built.to(ranks.device)
        optimiser = build_optimiser(model, loss, config)
        self.state = TrainingState(model, loss, optimiser, MovingAverage(model, config.ema_steps))
        self.tasks = loss.weighting.tasks
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.precision = config.precision
        device: Device = "cuda" if ranks.device.type == "cuda" else "cpu"
        if self.precision == "auto":
            self.precision = quick_precision(device)
        elif ranks.rank == 0:
            warn_of_emulation(self.precision, device)
        alone = ranks.count == 1  # gradients are averaged by hooks, which a graph would leave out
        recorded = alone and ranks.device.type == "cuda"
        trainee = kind.build_trainee(model, loss, recipe, self.precision, recorded)
        self.trainee = ranks.wrap(trainee)
        self.resume_at(0, 0.0)

    def resume(self) -> None:
        """Continue from the store's checkpoint, if there is one."""
        if self.state.restore(self.store):
            self.resume_at(self.state.step, self.state.elapsed_s)
            if self.ranks.rank == 0:
                self.show(f"continuing after step {self.state.step}")

    def resume_at(self, step: int, elapsed_s: float) -> None:
        """Set the clock and the tables to a step of the training."""
        self.curves = Table(self.store, CURVES, step)
        self.scores = Table(self.store, VALIDATION, step)
        self.events = EventFile(self.store, step)
        self.figures: dict[str, float] = {}  # the last of each, in process 0
        self.live = LiveTable(self.show, self.tasks)
        self.started = time.monotonic() - elapsed_s
        self.kept = time.monotonic()
        self.row, self.line = Span(self.tasks), Span(self.tasks)
        self.began = (self.schedule.fraction(step, elapsed_s), elapsed_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, without validation."""
        return time.monotonic() - self.started

    def train(self, batches: Batches) -> None:
        """Steps until the budget is spent or the batches end."""
        schedule, state = self.schedule, self.state
        if schedule.fraction(state.step, state.elapsed_s) >= 1:
            return
        if self.ranks.rank == 0:
            of = f"{self.ranks.count} trainers" if self.ranks.count > 1 else "one trainer"
            self.show(
                f"training {schedule.budget} on {self.ranks.device.type} ({of}, {self.precision}); "
                f"an epoch has {schedule.steps_per_epoch} steps"
            )
        lr, first = 0.0, state.step + 1
        for step, batch in batches(state.step):
            # use the clock of process 0: with different learning rates or numbers of steps, the
            # replicas would diverge
            elapsed_s = self.ranks.first(self.elapsed_s)
            lr = schedule.lr(step, schedule.fraction(step, elapsed_s))
            for group in state.optimiser.param_groups:
                group["lr"] = lr * group["rate"]
            self.learn(step, batch)
            state.step = step + 1
            self.report(lr, is_first=state.step == first)
            self.after_step()
            if schedule.fraction(step + 1, elapsed_s) >= 1:
                break
        if self.row.losses:  # the remaining steps, so that a short training has curves too
            self.log(lr)
        if self.line.losses:
            self.tell(lr)

    def report(self, lr: float, *, is_first: bool) -> None:
        """Store, show and tell Ray Train what was learned, each if it is time."""
        step = self.state.step
        is_due = is_first or step % LOG_STEPS == 0 or self.line.seconds > LOG_SECONDS
        if is_due or step <= EVERY_STEP:
            self.log(lr)
        if is_due:
            self.tell(lr)
        if step % REPORT_STEPS == 0:
            self.ranks.report({"step": step, **self.figures})

    def learn(self, step: int, batch: AnyBatch) -> None:
        """Do one training step."""
        device, state = self.ranks.device, self.state
        # what networks draw (proposals, dropout) is then the same after an interruption
        torch.manual_seed(1_000_003 * (1_000 * self.config.seed + self.ranks.rank) + step)
        total, parts = self.trainee(*batch.inputs(device))
        on_gpu = device.type == "cuda"  # there the gradient tells, and the host waits only once
        if not on_gpu and any(self.ranks.any(not bool(torch.isfinite(total)))):
            self.refuse(step, batch, float(total.detach()), "loss")
        state.optimiser.zero_grad(set_to_none=True)
        total.backward()
        limit = self.config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        if not bool(torch.isfinite(norm)):  # the averaged gradients are equal in all processes
            value = float(total.detach())
            what = "gradient" if math.isfinite(value) else "loss"
            self.refuse(step, batch, float(norm) if what == "gradient" else value, what)
        state.optimiser.step()
        state.average.update(state.model)
        losses = {"total": total.detach(), **{k: v.detach() for k, v in parts.items()}}
        for span in (self.row, self.line):
            span.add(losses, len(batch) * self.ranks.count)

    def refuse(self, step: int, batch: AnyBatch, value: float, what: str) -> None:
        """Stop, naming the files of the processes whose value is not finite.

        Raises:
            NonFiniteLossError: Always.
        """
        mine = batch.origins if not math.isfinite(value) else ()
        files = ", ".join(name for part in self.ranks.gather(mine) for name in part)
        raise NonFiniteLossError(
            f"training: the {what} is {value} at step {step}; the batch: {files or 'unnamed'}"
        )

    def log(self, lr: float) -> None:
        """Store the means of the steps since the last row."""
        state, span = self.state, self.row
        self.row = Span(self.tasks)
        if self.ranks.rank:
            return
        means = span.means()
        weights = state.loss.weighting.current_weights()
        row = {
            "epoch": state.step / self.schedule.steps_per_epoch,
            "share": self.schedule.fraction(state.step, self.elapsed_s),
            "rate": lr,
            "total": means["total"],
            **{f"loss_{task}": means[task] for task in self.tasks},
            **{f"weight_{task}": weights[task] for task in self.tasks},
            "images_per_s": span.images_per_s,
        }
        self.curves.add({"step": state.step, **row})
        self.events.add(state.step, row)
        self.figures |= row

    def tell(self, lr: float) -> None:
        """Show the means of the steps since the last line."""
        span, self.line = self.line, Span(self.tasks)
        if self.ranks.rank:
            return
        step = self.state.step
        fraction = self.schedule.fraction(step, self.elapsed_s)
        left = self.seconds_left(fraction)
        self.live.add(step, fraction, lr, span.means(), span.images_per_s, left)

    def seconds_left(self, fraction: float) -> float:
        """Seconds until the budget is spent, at the pace so far; infinite before the first step."""
        fraction_before, elapsed_before = self.began
        gained = fraction - fraction_before
        return (
            (self.elapsed_s - elapsed_before) * (1 - fraction) / gained if gained > 0 else math.inf
        )

    def after_step(self) -> None:
        """Validate and write a checkpoint if it is time."""
        if self.ranks.rank:
            return
        if self.validate is not None and self.is_time_to_validate():
            self.score()
        ends_epoch = self.state.step % self.schedule.steps_per_epoch == 0
        by_epoch = ends_epoch and self.config.epochs is not None
        if by_epoch or time.monotonic() - self.kept > CHECKPOINT_SECONDS:
            self.keep()

    def is_time_to_validate(self) -> bool:
        """Whether the configured minutes or epochs have passed since the last validation."""
        config, state = self.validation, self.state
        if config is None:
            return False
        if config.every_minutes is not None:
            return self.elapsed_s - state.validated[1] >= 60 * config.every_minutes
        every = (config.every_epochs or 1) * self.schedule.steps_per_epoch
        return state.step % every == 0

    def score(self) -> None:
        """Validate the moving average; the training clock is stopped meanwhile."""
        assert self.validate is not None  # noqa: S101 - asked for by the callers
        state, since = self.state, time.monotonic()
        self.show(f"validating after step {state.step}")
        scores = self.validate(state.average.model)
        for sequence, values in scores.items():
            self.scores.add({"step": state.step, "sequence": sequence, **values})
            self.events.add(state.step, values, f"validation/{sequence}/")
        overall = scores["OVERALL"]
        self.figures |= {f"validation_{name}": value for name, value in overall.items()}
        self.show(f"validation after step {state.step}: {headline(scores)}")
        wanted = self.validation.keep_best if self.validation else None
        if wanted is not None and math.isnan(overall[wanted]):
            self.show(f"{BEST} is not written: no data to measure {wanted} on")
        if wanted is not None and goodness(wanted, overall[wanted]) > state.best:
            state.best = goodness(wanted, overall[wanted])
            state.keep_weights(self.store, BEST, self.notes)
        self.scores.flush()
        self.started += time.monotonic() - since
        state.validated = (state.step, self.elapsed_s)

    def keep(self) -> None:
        """Write checkpoint, weights and curves."""
        if self.ranks.rank:
            return
        self.state.elapsed_s = self.elapsed_s
        self.state.keep(self.store, self.notes)
        self.curves.flush()
        self.events.flush()
        self.kept = time.monotonic()

    def finish(self) -> None:
        """Validate if the last step was not validated yet, and write the final files."""
        is_scored = False
        try:
            if self.validate is not None and self.state.validated[0] < self.state.step:
                self.score()
            is_scored = True
        finally:
            everywhere = self.ranks.first(is_scored)  # the others wait for the figures of process 0
        if everywhere:
            self.ranks.report({"step": self.state.step, **self.figures})
        self.keep()
        if self.ranks.rank == 0:
            plot_curves(self.store)

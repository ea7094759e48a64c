"""The training loop of one process: optimiser, schedule, moving average, checkpoints."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.jde.assignment import Labels
from models.jde.config import JDEConfig
from models.jde.loss import TASKS, JointLoss
from models.jde.network import JDE
from models.jde.weights import save

CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and how fast to learn.

    Attributes:
        minutes: Wall-clock budget; the schedule ends with it.
        batch: Images in a step.
        learning_rate: Peak of AdamW's.
        backbone_rate: Learning rate of the backbone over the peak.
        weight_decay: Of weights, not of norms and biases.
        warmup_steps: Linear rise to the peak.
        ema_steps: Time constant of the moving average that is saved.
        precision: `bf16` runs the network under autocast.
        seed: Of weights and data.
    """

    minutes: float
    batch: int = 16
    learning_rate: float = 1.5e-3
    backbone_rate: float = 0.4
    weight_decay: float = 0.05
    warmup_steps: int = 100
    ema_steps: float = 400.0
    precision: str = "bf16"
    seed: int = 0


class MovingAverage:
    """Exponential moving average of a network's parameters; buffers are copied."""

    def __init__(self, model: JDE, steps: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self.steps = steps
        self.updates = 0

    @torch.no_grad()
    def update(self, model: JDE) -> None:
        """Move towards `model`, fast at first."""
        self.updates += 1
        decay = (1 - 1 / self.steps) * (1 - math.exp(-self.updates / self.steps))
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)


def _optimiser(model: JDE, loss: JointLoss, config: TrainingConfig) -> torch.optim.AdamW:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *loss.named_parameters()]:
        rate = config.backbone_rate if name.startswith("backbone.") else 1.0
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr": rate, "rate": rate}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.99),
    )


def _schedule(step: int, share: float, config: TrainingConfig) -> float:
    """Learning rate: linear warm-up, then half a cosine over the time budget to 2 %."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return config.learning_rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)


def fit(
    model: JDE,
    num_identities: int,
    batches: Iterator[tuple[Tensor, Labels]],
    config: TrainingConfig,
    out: Path,
    *,
    notes: dict[str, str] | None = None,
    resume: bool = True,
) -> JDE:
    """Train until the budget is spent; the moving average is the result.

    `out` receives `latest.pt` (to resume, tensors only), `weights.safetensors` (the moving
    average) and `curves.csv` every two minutes and at the end.

    Args:
        model: Initial weights.
        num_identities: Classes of the identity loss.
        batches: Endless `(images (B, H, W, 3) uint8, labels)`.
        config: Budget and rates.
        out: Folder for what is kept.
        notes: Metadata of the weight file.
        resume: Go on from `latest.pt` where it exists.

    Raises:
        FloatingPointError: If the loss is no longer finite, naming the step.
    """
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    model = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = JointLoss(model.config, num_identities)
    optimiser = _optimiser(model, loss, config)
    average = MovingAverage(model, config.ema_steps)
    step, spent = 0, 0.0
    if resume and (out / "latest.pt").is_file():
        step, spent = _restore(out / "latest.pt", model, loss, optimiser, average)
    started = saved = time.monotonic()
    recent: list[list[float]] = []
    for images, labels in batches:
        share = (spent + time.monotonic() - started) / (60 * config.minutes)
        if share >= 1:
            break
        rate = _schedule(step, share, config)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["rate"]
        total, parts = _step(model, loss, optimiser, images, labels, config)
        if not math.isfinite(total):
            raise FloatingPointError(f"training: the loss is {total} at step {step}")
        average.update(model)
        recent.append([total, *(float(parts[task].detach()) for task in TASKS)])
        step += 1
        if step % 20 == 0:
            _log(out, step, share, rate, recent, loss)
            recent = []
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            _keep(out, model, loss, optimiser, average, step, spent + saved - started, notes)
    _keep(out, model, loss, optimiser, average, step, spent + time.monotonic() - started, notes)
    return average.model


def _step(
    model: JDE,
    loss: JointLoss,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Labels,
    config: TrainingConfig,
) -> tuple[float, dict[str, Tensor]]:
    pixels = images.permute(0, 3, 1, 2).float() / 255
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        maps = model.maps(pixels)
    total, parts = loss(maps, labels)
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_([*model.parameters(), *loss.parameters()], 10.0)
    optimiser.step()
    return float(total.detach()), parts


def _log(
    out: Path, step: int, share: float, rate: float, recent: list[list[float]], loss: JointLoss
) -> None:
    means = [sum(column) / len(column) for column in zip(*recent, strict=True)]
    weights = list(loss.weighting.current_weights().values())
    path = out / "curves.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            names = [f"loss_{task}" for task in TASKS] + [f"weight_{task}" for task in TASKS]
            writer.writerow(["step", "share", "rate", "total", *names])
        writer.writerow([step, *(f"{v:.5g}" for v in (share, rate, *means, *weights))])


def _keep(
    out: Path,
    model: JDE,
    loss: JointLoss,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage,
    step: int,
    spent: float,
    notes: dict[str, str] | None,
) -> None:
    state = {
        "model": model.state_dict(),
        "loss": loss.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.model.state_dict(),
        "updates": average.updates,
        "step": step,
        "spent": spent,
    }
    temporary = out / "latest.pt.part"
    torch.save(state, temporary)
    temporary.replace(out / "latest.pt")
    save(average.model, out / "weights.part.safetensors", notes)
    (out / "weights.part.safetensors").replace(out / "weights.safetensors")


def _restore(
    path: Path,
    model: JDE,
    loss: JointLoss,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage,
) -> tuple[int, float]:
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    renamed = {"classifier.": "identity.classifier.", "uncertainty.": "weighting.s."}
    of_loss = {}
    for key, value in state["loss"].items():  # names of checkpoints before the weightings
        old = next((start for start in renamed if key.startswith(start)), "")
        of_loss[renamed.get(old, "") + key.removeprefix(old)] = value
    loss.load_state_dict(of_loss)
    optimiser.load_state_dict(state["optimiser"])
    average.model.load_state_dict(state["average"])
    average.updates = state["updates"]
    return int(state["step"]), float(state["spent"])


def initialise_backbone(model: JDE, path: Path) -> int:
    """Load a FastestDet-layout state dict into a ShuffleNet backbone; returns the tensors taken.

    That detector was trained on BGR, ours reads RGB: the first convolution's inputs are turned.

    Raises:
        ValueError: If a tensor is missing or of another shape.
    """
    state = torch.load(path, weights_only=True, map_location="cpu")
    prefix = "backbone." if any(key.startswith("backbone.") for key in state) else ""
    mine = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    mine["first_conv.0.weight"] = mine["first_conv.0.weight"].flip(1)
    try:
        model.backbone.load_state_dict(mine, strict=True)
    except RuntimeError as error:
        raise ValueError(f"initial weights: {path}: {' '.join(str(error).split())}") from None
    return len(mine)


def describe(config: JDEConfig, model: JDE) -> str:
    """One line on a network's size."""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return f"{config.name}: {millions:.2f} M parameters, {config.size[0]}x{config.size[1]}"

"""Checkpoints of a training: network, loss, optimiser, moving average, position in the data."""

from __future__ import annotations

import copy
import io
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.training.kinds.kind import Loss, Network
from jde_ray.pipelines.training.kinds.registry import kind_of
from jde_ray.pipelines.training.settings import TrainingConfig

CHECKPOINT, PLACE = "latest.pt", "latest.json"
WEIGHTS, BEST = "weights.safetensors", "best.safetensors"
# names in checkpoints from before there were several losses and weightings
_RENAMED = {"classifier.": "identity.classifier.", "uncertainty.": "weighting.s."}


class MovingAverage:
    """Exponential moving average of a network's parameters; buffers are copied.

    Args:
        model: Network to follow.
        steps: Time constant in steps; 0 copies the network.
    """

    def __init__(self, model: Network, steps: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self.steps = steps
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Network) -> None:
        """Move towards `model`, faster during the first steps."""
        self.updates += 1
        decay = 0.0
        if self.steps:
            decay = (1 - 1 / self.steps) * (1 - math.exp(-self.updates / self.steps))
        # all tensors in one call: on a GPU one call per tensor takes longer than a small network
        torch._foreach_lerp_([*self.model.parameters()], [*model.parameters()], 1 - decay)
        torch._foreach_copy_([*self.model.buffers()], [*model.buffers()])


def build_optimiser(model: Network, loss: Loss, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW or SGD over network and loss; a group's `rate` multiplies the schedule's rate.

    Parameters with a rate of 0 stay as they are, and no gradients are computed for them.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    rates = {"backbone": config.backbone_rate, "weighting": config.weighting_rate}
    for name, parameter in [*model.named_parameters(), *loss.named_parameters()]:
        places = name.split(".")
        place = "backbone" if "backbone" in places else places[0]
        if not (rate := rates.get(place, 1.0)):
            parameter.requires_grad_(False)
            continue
        decays = config.decay_all or parameter.ndim > 1
        groups.setdefault((rate, config.weight_decay if decays else 0.0), []).append(parameter)
    options = [
        {"params": parameters, "weight_decay": decay, "lr": rate, "rate": rate}
        for (rate, decay), parameters in groups.items()
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(options, lr=config.learning_rate, momentum=config.momentum)
    on_gpu = next(model.parameters()).is_cuda
    return torch.optim.AdamW(options, betas=(0.9, 0.99), fused=on_gpu)


@dataclass
class TrainingState:
    """Content of a checkpoint.

    Attributes:
        model: Network that is trained.
        loss: Loss, whose classifier and task weights are trained too.
        optimiser: Optimiser of the parameters of network and loss.
        average: Moving average of the network, the result.
        step: Steps done.
        elapsed_s: Seconds of training done, without validation.
        best: Best validation score, minus infinity before the first validation.
        validated: Step and seconds of training at the last validation.
    """

    model: Network
    loss: Loss
    optimiser: torch.optim.Optimizer
    average: MovingAverage
    step: int = 0
    elapsed_s: float = 0.0
    best: float = -math.inf
    validated: tuple[int, float] = (0, 0.0)

    def keep(self, store: ObjectStore, notes: dict[str, str] | None) -> None:
        """Write the checkpoint, then its step, then the weights; each replaces the previous one."""
        content = {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "step": self.step,
            "spent": self.elapsed_s,
            "best": self.best,
            "validated": list(self.validated),
        }
        with tempfile.TemporaryDirectory(prefix="jde-train-") as folder:
            path = Path(folder) / CHECKPOINT
            torch.save(content, path)
            store.put(CHECKPOINT, path)
        store.put(PLACE, json.dumps({"step": self.step, "spent": self.elapsed_s}).encode())
        self.keep_weights(store, WEIGHTS, notes)

    def keep_weights(self, store: ObjectStore, key: str, notes: dict[str, str] | None) -> None:
        """Write the moving average as a weight file."""
        with tempfile.TemporaryDirectory(prefix="jde-train-") as folder:
            path = Path(folder) / key
            kind_of(self.average.model).save(self.average.model, path, notes)
            store.put(key, path)

    def restore(self, store: ObjectStore) -> bool:
        """Continue from the store's checkpoint; return False if there is none.

        Raises:
            ValueError: If it belongs to another network or another number of identities.
        """
        try:
            content = store.get(CHECKPOINT)
        except FileNotFoundError:
            return False
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        try:
            self.model.load_state_dict(state["model"])
            self.loss.load_state_dict({_present(key): v for key, v in state["loss"].items()})
            self.optimiser.load_state_dict(state["optimiser"])
            self.average.model.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            text = "was written by another configuration; name another --out, or give --no-resume"
            raise ValueError(f"checkpoint: {store.uri}/{CHECKPOINT} {text} ({reason})") from None
        self.average.updates = state["updates"]
        self.step, self.elapsed_s = int(state["step"]), float(state["spent"])
        self.best = float(state.get("best", -math.inf))
        step, elapsed_s = state.get("validated", (0, 0.0))
        self.validated = (int(step), float(elapsed_s))
        return True


def forget(store: ObjectStore) -> None:
    """Remove the checkpoint, so that training starts over; weights stay until they are replaced."""
    store.delete(PLACE)
    store.delete(CHECKPOINT)


def _present(key: str) -> str:
    old = next((start for start in _RENAMED if key.startswith(start)), "")
    return _RENAMED.get(old, "") + key.removeprefix(old)


def step_done(store: ObjectStore) -> int:
    """Number of steps in the store's checkpoint, 0 without one; reads only a few bytes."""
    try:
        return int(json.loads(store.get(PLACE))["step"])
    except FileNotFoundError:
        return 0

"""Two-stage networks in training: plain detectors, and the two-stage joint network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.rcnn import weights
from jde_ray.models.rcnn.importers import load_start
from jde_ray.models.rcnn.losses import RcnnLoss
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.pipelines.training.kinds.kind import Classifier, NetworkKind
from jde_ray.pipelines.training.kinds.start import load_whole
from jde_ray.pipelines.training.recipe import Recipe


class RcnnTrainee(nn.Module):
    """A two-stage network and its loss as one module.

    Args:
        model: Network to train.
        loss: Its loss.
        precision: `bf16` for autocast, else `fp32`.
    """

    def __init__(self, model: RcnnNet, loss: RcnnLoss, precision: str) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.in_bf16 = precision == "bf16"

    def forward(self, images: Tensor, labels: Labels) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its parts for `(B, H, W, 3)` uint8 images."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.in_bf16):
            total, parts = self.loss(self.model, self.model.normalise(images), labels)
        return total, parts


def _build(recipe: Recipe) -> RcnnNet:
    return RcnnNet(recipe.names.configurations[recipe.network])


def _initialise(model: RcnnNet, path: Path) -> int:
    if path.suffix != ".safetensors":
        return load_start(model, path).taken
    kind = joint_files.metadata(path).get("network")
    if kind == weights.NETWORK:
        return load_whole(path, model, weights.load(path).state_dict())
    backbone = model.backbone
    whole = joint_files.load(path).backbone.state_dict()
    wanted = backbone.state_dict()
    return load_whole(path, backbone, {key: whole[key] for key in wanted if key in whole})


def _run_maps(model: RcnnNet, images: Tensor) -> object:
    size = (int(images.shape[3]), int(images.shape[2]))
    return model.anchor_outputs(model.features(images), size)


def _build_loss(model: RcnnNet, recipe: Recipe, num_identities: int, _: Classifier) -> RcnnLoss:
    if not model.config.embedding_dim:
        return RcnnLoss(model.config)
    if num_identities < 2:
        text = f"{model.config.name} learns from two people or more"
        raise ValueError(f"identities: got {num_identities}, {text}")
    return RcnnLoss(model.config, num_identities, recipe.losses)


def _build_trainee(
    model: RcnnNet, loss: RcnnLoss, _: Recipe, precision: str, recorded: bool
) -> nn.Module:
    del recorded  # proposals differ in number, which a recording cannot follow
    return RcnnTrainee(model, loss, precision)


KIND = NetworkKind(
    network=RcnnNet,
    build=_build,
    save=weights.save,
    initialise=_initialise,
    run_maps=_run_maps,
    build_loss=_build_loss,
    build_trainee=_build_trainee,
)

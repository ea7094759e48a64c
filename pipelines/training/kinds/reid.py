"""Re-identification networks in training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.importers import load_backbone
from jde_ray.models.reid import weights
from jde_ray.models.reid.config import own_weights
from jde_ray.models.reid.losses import ReidLoss
from jde_ray.models.reid.network import ReidNet
from jde_ray.pipelines.training.crop_settings import CropConfig
from jde_ray.pipelines.training.data.crop_views import make_views
from jde_ray.pipelines.training.kinds.kind import Classifier, NetworkKind
from jde_ray.pipelines.training.kinds.start import initialise_shufflenet, load_whole
from jde_ray.pipelines.training.recipe import Recipe


class CropTrainee(nn.Module):
    """A re-identification network and its loss; it makes the views of its crops itself."""

    def __init__(self, model: ReidNet, loss: ReidLoss, crops: CropConfig, precision: str) -> None:
        super().__init__()
        self.model, self.loss, self.crops = model, loss, crops
        self.in_bf16 = precision == "bf16"

    def forward(
        self, pixels: Tensor, chances: Tensor, identity: Tensor, teacher: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its parts for the fields of a `CropBatch`."""
        crops = self.crops
        with torch.no_grad():
            views = make_views(
                pixels,
                chances,
                crops.views,
                crops.context,
                self.model.config.size,
                crops.sightings,
            ).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.in_bf16):
            found = self.model.part_vectors(views)
        total, parts = self.loss(found.float(), identity, teacher)
        return total, parts


def _build(recipe: Recipe) -> ReidNet:
    model = ReidNet(recipe.reid_config)
    if recipe.crops.only_parts and model.parts is not None:
        model.requires_grad_(False)
        model.parts.requires_grad_(True)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 0.0  # its statistics stay
    return model


def _initialise(model: ReidNet, path: Path) -> int:
    if path.suffix != ".safetensors":
        if model.config.backbone == "shufflenet":
            return initialise_shufflenet(model.backbone, path)
        return load_backbone(model, path).taken
    if joint_files.metadata(path).get("network") == weights.NETWORK:
        trained = weights.load(path)
        state = trained.state_dict()
        if model.parts is not None and trained.config.refined != model.config.refined:
            own = {f"parts.{key}": value for key, value in model.parts.state_dict().items()}
            return load_whole(path, model, own | state) - len(own)
        return load_whole(path, model, state)
    whole = joint_files.load(path).backbone.state_dict()
    wanted = model.backbone.state_dict()
    return load_whole(path, model.backbone, {key: whole[key] for key in wanted if key in whole})


def _build_loss(model: ReidNet, recipe: Recipe, num_identities: int, _: Classifier) -> ReidLoss:
    factors = recipe.crops.losses or own_weights(model.config)
    return ReidLoss(model.config, num_identities, factors)


def _build_trainee(
    model: ReidNet, loss: ReidLoss, recipe: Recipe, precision: str, _: bool
) -> nn.Module:
    return CropTrainee(model, loss, recipe.crops, precision)


KIND = NetworkKind(
    network=ReidNet,
    build=_build,
    save=weights.save,
    initialise=_initialise,
    run_maps=ReidNet.part_vectors,
    build_loss=_build_loss,
    build_trainee=_build_trainee,
)

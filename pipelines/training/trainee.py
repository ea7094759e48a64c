"""Network and loss as one module, since distributed training wraps a single module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jde_ray.models.jde.losses import anchor_free
from jde_ray.models.reid.config import own_weights
from jde_ray.models.reid.losses import ReidLoss
from jde_ray.models.reid.network import ReidNet
from jde_ray.pipelines.training.crop_settings import CropConfig
from jde_ray.pipelines.training.data.crop_views import make_views
from jde_ray.pipelines.training.joint_trainee import JointTrainee
from jde_ray.pipelines.training.networks import Loss, Network
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.run import TrainingRun


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


def build_loss(model: Network, run: TrainingRun) -> Loss:
    """The loss of a run's recipe.

    Raises:
        ValueError: If there are too few identities.
    """
    recipe = run.recipe
    if isinstance(model, ReidNet):
        factors = recipe.crops.losses or own_weights(model.config)
        return ReidLoss(model.config, run.num_identities, factors)
    loss = anchor_free.build_loss(
        model.config, run.num_identities, recipe.embedding_loss, recipe.weighting, recipe.margin
    )
    classifier = run.classifier()
    if classifier is not None:
        loss.identity.classifier.load_state_dict(classifier)
    return loss


def build_trainee(
    model: Network, loss: Loss, recipe: Recipe, precision: str, *, recorded: bool = False
) -> nn.Module:
    """Network and loss as the module whose forward pass takes a batch's `inputs`.

    Args:
        model: Network to train.
        loss: Its loss.
        recipe: Settings of the crops.
        precision: `bf16` for autocast, else `fp32`.
        recorded: Replay a joint network from recorded graphs, which needs a GPU.
    """
    if isinstance(model, ReidNet):
        assert isinstance(loss, ReidLoss)  # noqa: S101 - from `build_loss`
        return CropTrainee(model, loss, recipe.crops, precision)
    assert not isinstance(loss, ReidLoss)  # noqa: S101 - likewise
    return JointTrainee(model, loss, precision, recorded=recorded)

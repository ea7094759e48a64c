"""Joint networks in training."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from jde_ray.models.jde import weights
from jde_ray.models.jde.importers import load_backbone
from jde_ray.models.jde.losses import anchor_free
from jde_ray.models.jde.losses.anchor_based import AnchorLoss
from jde_ray.models.jde.losses.anchor_free import JointLoss
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.widening import is_half, widen
from jde_ray.pipelines.training.joint_trainee import JointTrainee
from jde_ray.pipelines.training.kinds.kind import Classifier, NetworkKind
from jde_ray.pipelines.training.kinds.start import initialise_shufflenet, load_whole
from jde_ray.pipelines.training.recipe import Recipe


def _build(recipe: Recipe) -> JDE:
    return JDE(recipe.config)


def _initialise(model: JDE, path: Path) -> int:
    is_checkpoint = path.suffix in weights.PICKLES and model.config.backbone == "darknet53"
    if path.suffix == ".safetensors" or is_checkpoint:
        trained = weights.load(path, model.config.size if is_checkpoint else None)
        if trained.config != model.config and is_half(trained, model):
            widen(trained, model)
            return len(trained.state_dict())
        return load_whole(path, model, trained.state_dict())
    if model.config.backbone != "shufflenet":
        return load_backbone(model, path).taken
    return initialise_shufflenet(model.backbone, path)


def _build_loss(
    model: JDE, recipe: Recipe, num_identities: int, classifier: Classifier
) -> JointLoss | AnchorLoss:
    loss = anchor_free.build_loss(model.config, num_identities, recipe.losses)
    if classifier is not None:
        loss.identity.classifier.load_state_dict(classifier)
    return loss


def _build_trainee(
    model: JDE, loss: JointLoss | AnchorLoss, _: Recipe, precision: str, recorded: bool
) -> nn.Module:
    return JointTrainee(model, loss, precision, recorded=recorded)


KIND = NetworkKind(
    network=JDE,
    build=_build,
    save=weights.save,
    initialise=_initialise,
    run_maps=JDE.maps,
    build_loss=_build_loss,
    build_trainee=_build_trainee,
)

"""Motion networks in training: they learn from pieces of tracks."""

from __future__ import annotations

from torch import Tensor, nn

from jde_ray.models.motion import network
from jde_ray.models.motion.config import MotionConfig
from jde_ray.models.motion.network import MotionLoss, MotionNet
from jde_ray.pipelines.training.kinds.kind import Classifier, NetworkKind
from jde_ray.pipelines.training.recipe import Recipe


class PieceTrainee(nn.Module):
    """A motion network and its loss as one module."""

    def __init__(self, model: MotionNet, loss: MotionLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(
        self, steps: Tensor, embeddings: Tensor | None = None, frames: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its parts; the arguments are described in `PieceBatch`."""
        density = self.model.log_density(steps)
        self.model.note(density)
        looks = self.model.looks
        if looks is None or embeddings is None or frames is None:
            total, parts = self.loss(density)
            return total, parts
        # the first embedding of a piece has none before it
        of_looks = looks.log_density(looks.components(embeddings))[:, 1:]
        step, known = frames[:, 1:] - 1, frames[:, 1:] >= 0
        both = (density.gather(1, step.clamp(min=0)) + of_looks)[known]
        if len(both):
            looks.note(both)
        total, parts = self.loss(density, of_looks[known])
        return total, parts


def _build(recipe: Recipe) -> MotionNet:
    config: MotionConfig = recipe.names.configurations[recipe.network]
    return MotionNet(config)


def _run_maps(model: MotionNet, steps: Tensor) -> object:
    return model(steps)


def _build_loss(model: MotionNet, _: Recipe, __: int, ___: Classifier) -> MotionLoss:
    return MotionLoss(has_looks=model.looks is not None)


def _build_trainee(
    model: MotionNet, loss: MotionLoss, _: Recipe, precision: str, recorded: bool
) -> nn.Module:
    del precision, recorded  # it is so small that neither helps
    return PieceTrainee(model, loss)


KIND = NetworkKind(
    network=MotionNet,
    build=_build,
    save=network.save,
    initialise=network.load_into,
    run_maps=_run_maps,
    build_loss=_build_loss,
    build_trainee=_build_trainee,
)

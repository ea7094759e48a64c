"""Checkpoints in any store: what is written comes back, whole."""

import pytest
import torch

from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.losses.anchor_free import JointLoss
from jde_ray.models.jde.network import JDE
from jde_ray.pipelines.training.checkpoint import (
    MovingAverage,
    TrainingState,
    build_optimiser,
    step_done,
)
from jde_ray.pipelines.training.settings import TrainingConfig


class DictStore:
    """An object store in memory; like S3 it has no files to be renamed."""

    uri = "memory://"

    def __init__(self):
        self.objects = {}

    def put(self, key, body):
        self.objects[key] = body if isinstance(body, bytes) else body.read_bytes()

    def get(self, key):
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]


def state(optimiser="adamw"):
    model = JDE(SMALL)
    loss = JointLoss(SMALL, 3)
    config = TrainingConfig(minutes=1, optimiser=optimiser, backbone_rate=0.5)
    return TrainingState(
        model, loss, build_optimiser(model, loss, config), MovingAverage(model, 10.0)
    )


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_checkpoint_brings_everything_back(optimiser):
    store, first = DictStore(), state(optimiser)
    for parameter in [*first.model.parameters(), *first.loss.parameters()]:
        parameter.grad = torch.full_like(parameter, 0.1)
    first.optimiser.step()
    first.average.update(first.model)
    first.step, first.elapsed_s, first.best, first.validated = 7, 12.5, 0.4, (6, 11.0)
    assert step_done(store) == 0
    first.keep(store, {"licence": "test only"})
    assert set(store.objects) == {"latest.pt", "latest.json", "weights.safetensors"}
    assert step_done(store) == 7
    second = state(optimiser)
    assert second.restore(store)
    for name in ("step", "elapsed_s", "best", "validated"):
        assert getattr(second, name) == getattr(first, name)
    for a, b in ((first.model, second.model), (first.average.model, second.average.model)):
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key])
    slots = first.optimiser.state_dict()["state"], second.optimiser.state_dict()["state"]
    for number, values in slots[0].items():
        for key, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(slots[1][number][key]))


def test_without_a_checkpoint_nothing_is_restored():
    assert not state().restore(DictStore())


def test_the_backbone_learns_slower_and_norms_do_not_decay():
    groups = state().optimiser.param_groups
    assert {group["rate"] for group in groups} == {0.5, 1.0}
    for group in groups:
        kinds = {parameter.ndim > 1 for parameter in group["params"]}
        assert kinds == {group["weight_decay"] > 0}


def test_the_moving_average_is_fast_at_first_then_slow():
    model = JDE(SMALL)
    average = MovingAverage(model, 100.0)
    parameter, mine = model.heads[0].box.bias, average.model.heads[0].box.bias
    with torch.no_grad():
        parameter.fill_(1.0)
        mine.fill_(0.0)
    average.update(model)
    assert mine[0] > 0.9
    with torch.no_grad():
        mine.fill_(0.0)
    average.updates = 10_000
    average.update(model)
    assert float(mine[0].detach()) == pytest.approx(0.01, rel=1e-3)


def test_task_weights_may_learn_at_a_rate_of_their_own():
    loss = JointLoss(SMALL, 3)
    config = TrainingConfig(steps=1, backbone_rate=0.5, weighting_rate=20.0)
    optimiser = build_optimiser(JDE(SMALL), loss, config)
    rates = {id(p): group["rate"] for group in optimiser.param_groups for p in group["params"]}
    assert {rates[id(s)] for s in loss.weighting.parameters()} == {20.0}
    assert {rates[id(p)] for p in loss.identity.parameters()} == {1.0}
    assert set(rates.values()) == {0.5, 1.0, 20.0}


def test_a_rate_of_zero_needs_no_gradients():
    model = JDE(SMALL)
    before = {name: values.clone() for name, values in model.backbone.state_dict().items()}
    config = TrainingConfig(steps=1, backbone_rate=0)
    optimiser = build_optimiser(model, JointLoss(SMALL, 3), config)
    assert not any(values.requires_grad for values in model.backbone.parameters())
    outputs = model.predict(model.features(torch.ones(1, 3, 64, 96)))
    sum(part.square().sum() for scale in outputs for part in scale).backward()
    optimiser.step()
    after = model.backbone.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())

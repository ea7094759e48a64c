"""A joint network that is replayed from recordings learns what it learns without them."""

import torch

from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.losses.anchor_free import JointLoss
from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.jde.network import JDE
from jde_ray.pipelines.training.joint_trainee import JointTrainee

PEOPLE = Labels(
    image=torch.tensor([0, 1]),
    tlbr=torch.tensor([[20.0, 10, 50, 60], [5, 8, 30, 60]]),
    identity=torch.tensor([0, 1]),
    ignore=torch.tensor([False, False]),
    appearance=torch.zeros(2, SMALL.embedding_dim),
    learns_detection=torch.ones(2, dtype=torch.bool),
)


def images(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (2, height, width, 3), generator=generator).to(torch.uint8)


def test_one_recording_a_shape_and_the_same_losses():
    torch.manual_seed(0)
    model, loss, recorded = JDE(SMALL).train(), JointLoss(SMALL, 2), []

    def record(module, first):
        recorded.append(tuple(first.shape))
        return module

    replayed = JointTrainee(model, loss, "fp32", recorded=True, record=record)
    plain = JointTrainee(model, loss, "fp32")
    for height, width in ((64, 96), (96, 64), (64, 96)):
        total, parts = replayed(images(height, width), PEOPLE)
        expected, expected_parts = plain(images(height, width), PEOPLE)
        torch.testing.assert_close(total, expected)
        assert parts.keys() == expected_parts.keys()
    assert recorded == [(2, 64, 96, 3), (2, 96, 64, 3)]


def test_no_recording_outside_training():
    model, loss = JDE(SMALL), JointLoss(SMALL, 2)

    def record(module, first):
        raise AssertionError("a network that does not learn is not recorded")

    trainee = JointTrainee(model, loss, "fp32", recorded=True, record=record).eval()
    with torch.no_grad():
        total, _ = trainee(images(64, 96), PEOPLE)
    assert torch.isfinite(total)

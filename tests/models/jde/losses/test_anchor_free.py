import math

import pytest
import torch
from torch.autograd import gradcheck

from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.losses.anchor_free import JointLoss, complete_iou, varifocal
from jde_ray.models.jde.losses.task_aligned import Labels, assign, pair_iou
from jde_ray.models.jde.network import JDE


def labels_of(tlbr, identity=None, ignore=None, appearance=None, learns=(True,)):
    count = len(tlbr)
    return Labels(
        image=torch.zeros(count, dtype=torch.int64),
        tlbr=torch.tensor(tlbr, dtype=torch.float32).reshape(count, 4),
        identity=torch.tensor(identity or [-1] * count, dtype=torch.int64),
        ignore=torch.tensor(ignore or [False] * count, dtype=torch.bool),
        appearance=torch.zeros(count, SMALL.embedding_dim) if appearance is None else appearance,
        learns_detection=torch.tensor(learns),
    )


def grid(width=160, height=96, stride=8):
    y, x = torch.meshgrid(
        torch.arange(stride / 2, height, stride),
        torch.arange(stride / 2, width, stride),
        indexing="ij",
    )
    return torch.stack([x.flatten(), y.flatten()], 1)


def test_positives_lie_in_their_box_and_the_best_one_targets_its_overlap():
    centres = grid()
    half = torch.tensor([10.0, 25.0])
    tlbr = torch.cat([centres - half, centres + half], 1)[None]
    scores = torch.full((1, len(centres)), 0.1)
    labels = labels_of([[40, 20, 60, 70], [100, 30, 121, 82]])
    result = assign(tlbr, scores, centres, labels)
    for row in (0, 1):
        cells = result.label[0] == row
        assert 0 < cells.sum() <= 10
        inside = (centres[cells] > labels.tlbr[row, :2]) & (centres[cells] < labels.tlbr[row, 2:])
        assert inside.all()
        best = pair_iou(labels.tlbr[row : row + 1], tlbr[0])[0, cells].max()
        torch.testing.assert_close(result.quality[0, cells].max(), best)
    assert (result.quality[0, result.label[0] < 0] == 0).all()


def test_ignored_regions_are_neither_person_nor_background():
    centres = grid()
    half = torch.tensor([10.0, 25.0])
    tlbr = torch.cat([centres - half, centres + half], 1)[None]
    labels = labels_of([[40, 20, 60, 70]], ignore=[True])
    result = assign(tlbr, torch.full((1, len(centres)), 0.1), centres, labels)
    inside = ((centres > labels.tlbr[0, :2]) & (centres < labels.tlbr[0, 2:])).all(1)
    assert (result.label == -1).all()
    assert torch.equal(result.counted[0], ~inside)


def test_complete_iou_is_one_for_equal_boxes_and_falls_with_distance():
    box = torch.tensor([[10.0, 10.0, 30.0, 60.0]])
    torch.testing.assert_close(complete_iou(box, box), torch.ones(1))
    near, far = complete_iou(box, box + 5), complete_iou(box, box + 80)
    assert 1 > near > 0 > far


def test_varifocal_equals_its_formula():
    logits = torch.tensor([0.3, -1.2, 2.0])
    quality = torch.tensor([0.8, 0.0, 0.0])
    counted = torch.tensor([True, True, False])
    p = logits.sigmoid()
    positive = -0.8 * (0.8 * p[0].log() + 0.2 * (1 - p[0]).log())
    negative = -0.75 * p[1] ** 2 * (1 - p[1]).log()
    torch.testing.assert_close(varifocal(logits, quality, counted), positive + negative)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return JDE(SMALL).train()


def test_total_is_the_uncertainty_weighted_sum_of_equation_6(model):
    loss = JointLoss(SMALL, num_identities=5)
    labels = labels_of([[20, 10, 60, 90]], identity=[3])
    total, parts = loss(model.maps(torch.rand(1, 3, 96, 160)), labels)
    expected = sum(
        0.5 * (math.exp(-float(s.detach())) * float(parts[task].detach()) + float(s.detach()))
        for task, s in loss.weighting.s.items()
    )
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("identity", [[-1], None], ids=["no identity", "nobody"])
def test_a_batch_without_identities_gives_a_finite_loss_and_gradients(model, identity):
    boxes = [[20, 10, 60, 90]] if identity else []
    loss = JointLoss(SMALL, num_identities=5)
    total, parts = loss(model.maps(torch.rand(1, 3, 96, 160)), labels_of(boxes, identity))
    total.backward()
    assert float(parts["identity"].detach()) == 0
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_collage_teaches_no_detection(model):
    loss = JointLoss(SMALL, num_identities=5)
    labels = labels_of([[20, 10, 60, 90]], identity=[2], learns=(False,))
    _, parts = loss(model.maps(torch.rand(1, 3, 96, 160)), labels)
    assert float(parts["score"].detach()) == 0
    assert float(parts["box"].detach()) == 0
    assert float(parts["identity"].detach()) > 0


def test_a_few_steps_on_one_image_lower_every_loss():
    torch.manual_seed(0)
    model = JDE(SMALL).train()
    loss = JointLoss(SMALL, num_identities=3)
    image = torch.rand(2, 3, 64, 96)
    target = torch.nn.functional.normalize(torch.randn(1, SMALL.embedding_dim))
    labels = labels_of([[20, 4, 50, 60]], identity=[1], appearance=target, learns=(True, True))
    optimiser = torch.optim.AdamW([*model.parameters(), *loss.parameters()], lr=2e-3)
    history = []
    for _ in range(40):
        total, parts = loss(model.maps(image), labels)
        history.append({task: float(part.detach()) for task, part in parts.items()})
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    # single steps go up now and then, at other steps on other processors: the best of ten counts
    assert all(min(step[task] for step in history[-10:]) < history[0][task] for task in history[0])


def test_gradients_of_the_detection_losses_match_finite_differences():
    """Where the weight that both hold fixed does not move: positives, boxes of one shape."""
    torch.manual_seed(0)
    quality = torch.rand(5, dtype=torch.float64)
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: varifocal(x, quality, torch.ones(5, dtype=torch.bool)), logits)
    b = torch.tensor([[10.0, 10.0, 30.0, 60.0], [3.0, 5.0, 23.0, 55.0]], dtype=torch.float64)
    a = (b + torch.tensor([[3.0, 4.0, 3.0, 4.0], [-2.0, 1.0, -2.0, 1.0]])).requires_grad_()
    assert gradcheck(lambda x: complete_iou(x, b), a, atol=1e-4)


def test_gradients_of_negatives_and_of_shape_hold_their_weight_fixed():
    logits = torch.tensor([0.4, -1.0], dtype=torch.float64, requires_grad=True)
    none = torch.zeros(2, dtype=torch.float64)
    varifocal(logits, none, torch.ones(2, dtype=torch.bool)).backward()
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, 0.75 * p**2 * p)  # weight times sigmoid's slope
    b = torch.tensor([[10.0, 10.0, 30.0, 60.0]], dtype=torch.float64)
    a = torch.tensor([[12.0, 14.0, 40.0, 58.0]], dtype=torch.float64, requires_grad=True)
    complete_iou(a, b).sum().backward()

    def shape_of(box):
        size = box[:, 2:] - box[:, :2]
        angle = torch.atan(size[:, 0] / size[:, 1]) - torch.atan(torch.tensor(20 / 50))
        return 4 / math.pi**2 * angle.pow(2)

    shape = shape_of(a.detach())
    overlap = pair_iou(a.detach(), b)[0]
    weight = shape / (1 - overlap + shape)
    free = complete_iou(a.detach(), b) + weight * shape  # without the shape term
    steps = torch.eye(4, dtype=torch.float64) * 1e-6
    slope = []
    for step in steps:
        moved = a.detach() + step
        now = shape_of(moved)
        own = now / (1 - pair_iou(moved, b)[0] + now)
        slope.append((complete_iou(moved, b) + own * now - weight * now - free) / 1e-6)
        slope[-1] = slope[-1] + weight * shape / 1e-6
    torch.testing.assert_close(a.grad[0], torch.cat(slope), rtol=1e-3, atol=1e-5)


def test_people_of_a_batch_are_assigned_as_in_an_image_of_their_own():
    generator = torch.Generator().manual_seed(4)
    centres, count = grid(320, 192), 40
    middle = centres[None] + 6 * torch.randn(3, len(centres), 2, generator=generator)
    half = 4 + 30 * torch.rand(3, len(centres), 2, generator=generator)
    tlbr = torch.cat((middle - half, middle + half), 2)
    scores = torch.rand(3, len(centres), generator=generator)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([280.0, 150.0])
    size = 8 + 60 * torch.rand(count, 2, generator=generator)
    image = torch.randint(3, (count,), generator=generator)
    together = Labels(
        image=image,
        tlbr=torch.cat((corner, corner + size), 1),
        identity=image,
        ignore=torch.rand(count, generator=generator) < 0.2,
        appearance=torch.zeros(count, 2),
        learns_detection=torch.tensor([True, False, True]),
    )
    batch = assign(tlbr, scores, centres, together)
    for one in range(3):
        mine = torch.nonzero(image == one).squeeze(1)
        alone = Labels(
            image=torch.zeros(len(mine), dtype=torch.int64),
            tlbr=together.tlbr[mine],
            identity=together.identity[mine],
            ignore=together.ignore[mine],
            appearance=together.appearance[mine],
            learns_detection=together.learns_detection[one : one + 1],
        )
        single = assign(tlbr[one : one + 1], scores[one : one + 1], centres, alone)
        rows = torch.where(single.label[0] < 0, -1, mine[single.label[0]])
        assert torch.equal(rows, batch.label[one])
        assert torch.equal(single.quality[0], batch.quality[one])
        assert torch.equal(single.counted[0], batch.counted[one])
    assert (batch.label >= 0).any(1).all()

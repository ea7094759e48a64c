from dataclasses import replace

import numpy as np
import places
import pytest
import torch
from torch.autograd import gradcheck

from jde_ray.models.jde.config import CONFIGURATIONS, SMALL, STRIDES
from jde_ray.models.jde.decode import decode_scale
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.losses.anchor_based import AnchorLoss, box_loss, score_loss
from jde_ray.models.jde.losses.anchor_matching import assign_anchors
from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.jde.network import JDE
from jde_ray.models.losses.config import LossConfig

GOLDEN = places.GOLDEN / "training.npz"
CONFIG = CONFIGURATIONS["darknet53-576x320"]
WIDTH, HEIGHT = CONFIG.size
TASKS = ("score", "box", "identity")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as figures:
        return dict(figures)


def labels_of(rows, batch=1, **changes):
    """Labels from rows `image, cx, cy, w, h, identity` in network pixels."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    middle, half = table[:, 1:3], table[:, 3:5] / 2
    values = {
        "image": table[:, 0].long(),
        "tlbr": torch.cat((middle - half, middle + half), 1).float(),
        "identity": table[:, 5].long(),
        "ignore": torch.zeros(len(table), dtype=torch.bool),
        "appearance": torch.zeros(len(table), 0),
        "learns_detection": torch.ones(batch, dtype=torch.bool),
    }
    return Labels(**{**values, **changes})


@pytest.fixture(scope="module")
def golden_labels(golden):
    rows = [
        (image, xc * WIDTH, yc * HEIGHT, w * WIDTH, h * HEIGHT, identity)
        for image in (0, 1)
        for _, identity, xc, yc, w, h in golden[f"targets{image}"].astype(np.float64)
    ]
    return labels_of(rows, batch=2)


def grid_of(scale):
    return HEIGHT // STRIDES[scale], WIDTH // STRIDES[scale]


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_assignment_is_the_originals(golden, golden_labels, scale):
    stride = STRIDES[scale]
    targets = assign_anchors(CONFIG, scale, golden_labels, *grid_of(scale))
    np.testing.assert_array_equal(targets.kind.numpy(), golden[f"s{stride}_tconf"])
    foreground = torch.nonzero(targets.row >= 0).numpy()
    np.testing.assert_array_equal(foreground, golden[f"s{stride}_fg_idx"])
    np.testing.assert_allclose(targets.box.numpy(), golden[f"s{stride}_fg_delta"], atol=1e-5)
    of_anchor = golden[f"s{stride}_tid"][..., 0]
    np.testing.assert_array_equal(targets.identity.numpy(), of_anchor.max(1))


def raw_maps(stride):
    """The random map of the golden figures in the published channel order."""
    shape = (2, 536, HEIGHT // stride, WIDTH // stride)
    raw = np.random.Generator(np.random.PCG64(1000 + stride)).normal(0, 0.5, shape)
    return torch.tensor(raw, dtype=torch.float32, requires_grad=True)


def maps_of(raw):
    heads = raw[:, :24].unflatten(1, (4, 6))
    return ScaleMaps(heads[:, :, :4], heads[:, :, 4:], raw[:, 24:])


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_losses_and_gradients_are_the_originals(golden, golden_labels, scale):
    stride = STRIDES[scale]
    loss = AnchorLoss(CONFIG, num_identities=41)
    classifier = np.random.Generator(np.random.PCG64(9)).normal(0, 0.05, (41, 512))
    with torch.no_grad():
        loss.identity.classifier.weight.copy_(torch.tensor(classifier))
        loss.identity.classifier.bias.zero_()
    raw = [raw_maps(s) for s in STRIDES]
    _, parts = loss([maps_of(r) for r in raw], golden_labels)
    mine = {task: parts[f"{task}_{stride}"] for task in TASKS}
    s = {task: loss.weighting.s[f"{task}_{stride}"] for task in TASKS}
    total = sum((torch.exp(-s[task]) * mine[task] + s[task]) / 2 for task in TASKS)
    total.backward()
    got = [total, mine["box"], mine["score"], mine["identity"]]
    expected = golden[f"s{stride}_loss"]
    np.testing.assert_allclose([float(v.detach()) for v in got], expected[:4], rtol=1e-5)
    np.testing.assert_allclose(float(raw[scale].grad.norm()), expected[5], rtol=1e-5)
    np.testing.assert_allclose(loss.identity.scale, expected[6], rtol=1e-5)
    slopes = [float(s[task].grad) for task in ("box", "score", "identity")]
    np.testing.assert_allclose(slopes, golden[f"s{stride}_grad_s"], rtol=1e-5)


def test_the_total_is_equation_6_over_all_heads_and_tasks(golden_labels):
    loss = AnchorLoss(CONFIG, num_identities=41)
    total, parts = loss([maps_of(raw_maps(s)) for s in STRIDES], golden_labels)
    s = loss.weighting.s
    assert set(parts) == set(s) == {f"{t}_{stride}" for t in TASKS for stride in STRIDES}
    expected = sum((torch.exp(-s[name]) * parts[name] + s[name]) / 2 for name in parts)
    torch.testing.assert_close(total, expected)


def test_box_targets_decode_to_the_box():
    labels = labels_of([(0, 200.0, 150.0, 43.0, 128.0, 3)])
    targets = assign_anchors(CONFIG, 1, labels, *grid_of(1))
    box = torch.zeros(1, 4, 4, *grid_of(1))
    box.movedim(2, 4)[torch.nonzero(targets.row >= 0, as_tuple=True)] = targets.box
    maps = ScaleMaps(box, torch.zeros(1, 4, 2, *grid_of(1)), torch.zeros(1, 512, *grid_of(1)))
    boxes, _ = decode_scale(CONFIG, 1, maps)
    chosen = boxes[0][(targets.row >= 0).flatten()]
    assert len(chosen) > 4
    expected = torch.tensor([200.0, 150.0, 43.0, 128.0]).expand_as(chosen)
    torch.testing.assert_close(chosen, expected, rtol=1e-5, atol=1e-3)


def test_other_thresholds_move_the_borders_of_foreground_and_background():
    labels = labels_of([(0, 200.0, 150.0, 43.0, 128.0, 3)])
    usual = assign_anchors(CONFIG, 1, labels, *grid_of(1))
    wide = assign_anchors(CONFIG, 1, labels, *grid_of(1), (0.5, 0.3))
    few = assign_anchors(CONFIG, 1, labels, *grid_of(1), (0.6, 0.4))
    assert torch.equal(wide.row, usual.row)
    assert int((wide.kind == -1).sum()) > int((usual.kind == -1).sum())
    assert 0 < int((few.kind == 1).sum()) < int((usual.kind == 1).sum())


def test_ignored_boxes_and_collages_teach_no_score():
    person = (0, 200.0, 150.0, 43.0, 128.0, 3)
    ignored = labels_of([person], ignore=torch.tensor([True]))
    kind = assign_anchors(CONFIG, 1, ignored, *grid_of(1)).kind
    assert (kind == 1).sum() == 0
    assert (kind[0, :, 9, 12] == -1).all()  # the cell in its middle
    assert (kind[0, :, 0, 0] == 0).all()
    collage = labels_of([person], learns_detection=torch.tensor([False]))
    targets = assign_anchors(CONFIG, 1, collage, *grid_of(1))
    assert (targets.kind == -1).all()
    assert (targets.identity == 3).any()


@pytest.mark.parametrize("rows", [[], [(0, 200.0, 150.0, 43.0, 128.0, -1)]], ids=["nobody", "-1"])
@pytest.mark.parametrize("kind", ["cross_entropy", "triplet", "upper_bound"])
def test_without_identities_the_embedding_loss_is_zero_and_all_is_finite(rows, kind):
    loss = AnchorLoss(CONFIG, 0, LossConfig(embedding_loss=kind))
    raw = [raw_maps(s) for s in STRIDES]
    total, parts = loss([maps_of(r) for r in raw], labels_of(rows, batch=2))
    assert all(float(parts[f"identity_{s}"].detach()) == 0 for s in STRIDES)
    total.backward()
    gradients = [r.grad for r in raw] + [p.grad for p in loss.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_another_score_form_is_refused():
    with pytest.raises(ValueError, match="sigmoid"):
        AnchorLoss(SMALL, 3)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_gradients_of_the_score_and_box_losses():
    torch.manual_seed(0)
    kind = torch.randint(-1, 2, (2, 3, 4, 5))
    assert gradcheck(lambda logits: score_loss(logits, kind), double(2, 3, 2, 4, 5))
    assert gradcheck(box_loss, (double(6, 4), torch.randn(6, 4, dtype=torch.float64)))
    assert float(score_loss(double(1, 1, 2, 1, 1), torch.full((1, 1, 1, 1), -1)).detach()) == 0


def test_gradients_of_the_whole_loss():
    """Three scales of a tiny image, in float64, against finite differences."""
    torch.manual_seed(0)
    config = CONFIG
    labels = labels_of([(0, 32.0, 32.0, 24.0, 60.0, 1), (0, 16.0, 33.0, 9.0, 25.0, 0)])
    loss = AnchorLoss(config, num_identities=3).double()
    shapes = [(1, 24 + 512, 64 // s, 64 // s) for s in STRIDES]
    raw = [0.3 * torch.randn(shape, dtype=torch.float64) for shape in shapes]
    width = 3  # the first embedding channels; the rest stay as they are
    free = [r[:, : 24 + width].clone().requires_grad_() for r in raw]

    def total(*parts):
        joined = [torch.cat((p, r[:, 24 + width :]), 1) for p, r in zip(parts, raw, strict=True)]
        return loss([maps_of(j) for j in joined], labels)[0]

    counted = [assign_anchors(config, i, labels, 64 // s, 64 // s) for i, s in enumerate(STRIDES)]
    assert {int(row) for c in counted for row in c.row.unique()} == {-1, 0, 1}
    assert gradcheck(total, free, fast_mode=True)


def test_half_precision_maps_give_a_float32_loss(golden_labels):
    loss = AnchorLoss(CONFIG, num_identities=41)
    raw = [raw_maps(s) for s in STRIDES]
    _, full = loss([maps_of(r) for r in raw], golden_labels)
    _, half = loss([maps_of(r.bfloat16()) for r in raw], golden_labels)
    for name, value in half.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full[name], rtol=0.02, atol=0.02)


def test_a_few_steps_on_one_image_lower_the_losses_of_a_network_with_anchors():
    """The published neck and heads, narrow, over the small backbone."""
    torch.manual_seed(0)
    narrow = replace(CONFIG, backbone="shufflenet", neck_channels=(32, 32, 32), embedding_dim=16)
    model = JDE(narrow).train()
    loss = AnchorLoss(narrow, num_identities=3)
    image = torch.rand(1, 3, 128, 128)
    labels = labels_of([(0, 64.0, 64.0, 30.0, 90.0, 1), (0, 32.0, 48.0, 11.0, 32.0, 2)])
    optimiser = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=3e-3)
    history = []
    for _ in range(20):
        features = model.features(image)
        total, parts = loss(model.predict(features), labels, features)
        history.append({name: float(part.detach()) for name, part in parts.items()})
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    lowest = {name: min(step[name] for step in history[-5:]) for name in history[0]}
    falling = [name for name in lowest if lowest[name] < 0.7 * history[0][name]]
    assert {name.split("_")[0] for name in falling} == set(TASKS), (history[0], lowest)

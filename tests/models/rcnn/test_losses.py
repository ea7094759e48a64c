import math
from dataclasses import replace

import pytest
import torch
from rcnn_scenes import labelled, picture

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.jde.losses.task_aligned import pair_iou
from jde_ray.models.losses.config import EMBEDDING_LOSSES, WEIGHTINGS, LossConfig
from jde_ray.models.rcnn.anchors import encode
from jde_ray.models.rcnn.config import CONFIGURATIONS, FRCNN_SMALL, Stage
from jde_ray.models.rcnn.heads import StageOutputs
from jde_ray.models.rcnn.losses import RcnnLoss, proposal_loss, stage_losses
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.models.rcnn.proposals import AnchorOutputs, propose
from jde_ray.models.rcnn.sampling import SampledAnchors, SampledBoxes, real_boxes

JOINT_SMALL = CONFIGURATIONS["jde-frcnn-small"]
PEOPLE = [[12, 8, 34, 60], [60, 10, 76, 54]]
SMALL = {"level_proposals": (40, 20), "proposals": (40, 20), "sampled_boxes": 32}


def smooth_l1(values, beta):
    return sum(x * x / (2 * beta) if abs(x) < beta else abs(x) - beta / 2 for x in values)


def test_the_proposals_loss_is_what_loops_give():
    torch.manual_seed(0)
    anchors = torch.tensor([[10.0, 5, 32, 60], [55, 10, 75, 60], [0, 0, 16, 16]])
    found = AnchorOutputs(torch.randn(2, 3), torch.randn(2, 3, 4), anchors, (3,), (96, 64))
    truth = labelled(PEOPLE)
    sampled = SampledAnchors(
        torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, -1, -1])
    )
    total = 0.0
    for image, anchor, row in zip(sampled.image, sampled.anchor, sampled.row, strict=True):
        probability = 1 / (1 + math.exp(-found.logits[image, anchor].item()))
        total -= math.log(probability if row >= 0 else 1 - probability)
        if row >= 0:
            target = encode(truth.tlbr[row][None], anchors[anchor][None])[0]
            total += smooth_l1((found.offsets[image, anchor] - target).tolist(), 1 / 9)
    assert proposal_loss(found, sampled, truth).item() == pytest.approx(total / 4, rel=1e-5)


def test_the_losses_of_a_stage_are_what_loops_give():
    torch.manual_seed(0)
    stage = Stage(deviations=(0.1, 0.2, 0.3, 0.4))
    sampled = SampledBoxes(
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([[10.0, 5, 32, 60], [55, 10, 75, 60], [0, 0, 16, 16], [12, 8, 34, 61]]),
        torch.tensor([0, 1, -1, 0]),
        torch.tensor([True, True, True, False]),  # the last one teaches appearance alone
        torch.zeros(4, dtype=torch.bool),
    )
    outputs = StageOutputs(torch.randn(4, 2), torch.randn(4, 4), torch.zeros(4, 0))
    truth = labelled(PEOPLE, learns=(True, False))
    score = place = 0.0
    for n in range(3):
        row = int(sampled.row[n])
        background, person = (math.exp(x) for x in outputs.logits[n].tolist())
        score -= math.log((person if row >= 0 else background) / (person + background))
        if row >= 0:
            target = encode(truth.tlbr[row][None], sampled.tlbr[n][None], stage.deviations)[0]
            place += smooth_l1((outputs.offsets[n] - target).tolist(), 1.0)
    losses = stage_losses(replace(FRCNN_SMALL, box_beta=1.0), stage, outputs, sampled, truth)
    assert losses[0].item() == pytest.approx(score / 3, rel=1e-5)
    assert losses[1].item() == pytest.approx(place / 3, rel=1e-5)


@pytest.fixture(scope="module")
def joint():
    torch.manual_seed(0)
    return RcnnNet(replace(JOINT_SMALL, **SMALL, head_widths=(64, 64))).train()


def images(count=1):
    return picture(PEOPLE, 96, 64).expand(count, -1, -1, -1)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_joint_network_has_four_tasks_that_every_strategy_balances(joint, weighting):
    loss = RcnnLoss(joint.config, 3, LossConfig(weighting=weighting))
    total, parts = loss(joint, joint.normalise(images()), labelled(PEOPLE))
    assert list(parts) == ["proposals", "score", "box", "identity"]
    assert parts["identity"].item() == pytest.approx(math.log(3), abs=0.4)
    assert torch.isfinite(total)
    if weighting == "fixed":
        detection = 64 * (parts["proposals"] + parts["score"] + parts["box"])
        assert total.item() == pytest.approx((detection + 0.1 * parts["identity"]).item())


@pytest.mark.parametrize(
    ("kind", "learns"), [*((kind, True) for kind in EMBEDDING_LOSSES), ("cross_entropy", False)]
)
def test_a_picture_without_people_is_learned_too_and_reaches_every_parameter(joint, kind, learns):
    loss = RcnnLoss(joint.config, 3, LossConfig(embedding_loss=kind, weighting="uniform"))
    joint.zero_grad()
    total, parts = loss(joint, joint.normalise(images()), labelled([], learns=(learns,)))
    total.backward()
    learning = [*joint.named_parameters(), *loss.named_parameters()]
    assert not [name for name, p in learning if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for _, p in learning)
    assert parts["identity"] == 0
    assert (total > 0) == learns


def test_pictures_that_only_teach_appearance_teach_no_detection(joint):
    loss = RcnnLoss(joint.config, 3)
    truth = labelled(PEOPLE, learns=(False,))
    _, parts = loss(joint, joint.normalise(images()), truth)
    assert parts["proposals"] == parts["score"] == parts["box"] == 0
    assert parts["identity"] > 0


def test_a_detector_learns_no_identities():
    network = RcnnNet(replace(FRCNN_SMALL, **SMALL, head_widths=(64, 64))).train()
    loss = RcnnLoss(network.config)
    assert not list(loss.parameters())
    total, parts = loss(network, network.normalise(images()), labelled(PEOPLE))
    assert list(parts) == ["proposals", "score", "box"]
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()))


def train(network, loss, frames, truth, steps, rate=1e-3):
    """Train on one picture; the total loss of each step."""
    learning = [p for p in [*network.parameters(), *loss.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, rate)
    totals = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20) * (0.1 if step > 0.8 * steps else 1)
        total, _ = loss(network.train(), network.normalise(frames), truth)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learning, 5.0)
        optimiser.step()
        totals.append(total.item())
    return totals


def test_the_loss_of_one_picture_falls():
    torch.manual_seed(1)
    network = RcnnNet(replace(JOINT_SMALL, **SMALL, pyramid_channels=16, head_widths=(32, 32)))
    loss = RcnnLoss(network.config, 2)
    totals = train(network, loss, images(), labelled(PEOPLE), 12, 5e-3)
    assert sum(totals[-3:]) < 0.7 * sum(totals[:3])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["frcnn-small", "cascade-small", "frcnn-vgg-small", "jde-frcnn-small"]
)
def test_each_small_network_learns_a_picture_by_heart(name):
    """Average precision 1: every person above everything else, well placed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    people = [[30, 20, 62, 110], [100, 40, 125, 112], [200, 30, 240, 140]]
    frames, truth = picture(people, 288, 160), labelled(people)
    network = RcnnNet(CONFIGURATIONS[name])
    loss = RcnnLoss(network.config, 3)
    train(network, loss, frames, truth, 200)
    network.eval()
    found = network.detect(frames, score_threshold=0.05)[0]
    overlap = iou_matrix(torch.tensor(people).numpy().astype("float32"), found.tlbr)
    assert len(found.scores) >= 3
    assert (overlap[:, :3].max(1) > 0.5).all()
    assert sorted(overlap[:, :3].argmax(1)) == [0, 1, 2]
    if name.startswith("cascade"):
        assert_each_stage_places_boxes_better(network, frames, truth)
    if name.startswith("jde"):
        (vectors,) = network.embed(frames, [truth.tlbr])
        assert (vectors @ vectors.T - torch.eye(3)).max() < 0.5


def assert_each_stage_places_boxes_better(network, frames, truth):
    """The mean overlap of the boxes of people rises from stage to stage."""
    with torch.inference_mode():
        pixels = network.normalise(frames)
        features = network.features(pixels)
        size = (frames.shape[2], frames.shape[1])
        proposals = propose(network.config, network.anchor_outputs(features, size))
        (tlbr,) = real_boxes(proposals)
        image = torch.zeros(len(tlbr), dtype=torch.int64)
        near = pair_iou(tlbr, truth.tlbr).amax(1) > 0.3
        means = [pair_iou(tlbr, truth.tlbr).amax(1)[near].mean().item()]
        for number, head in enumerate(network.stages):
            tlbr = head.boxes(network.look(number, features, image, tlbr), tlbr, size)
            means.append(pair_iou(tlbr, truth.tlbr).amax(1)[near].mean().item())
    assert means == sorted(means)

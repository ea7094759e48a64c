import math

import pytest
import torch
from torch.nn import functional as F

from jde_ray.models.reid.config import (
    CNN5,
    SMALL_IDE,
    SMALL_PCB,
    SMALL_QAN,
    WRN,
    LossWeights,
    own_weights,
)
from jde_ray.models.reid.losses import ReidLoss, batch_hard, teacher_distances
from jde_ray.models.reid.network import PartVectors


def loops(vectors, identity, margin):
    """The loss as its definition reads, a crop, a positive and a negative at a time."""
    total, count = 0.0, 0
    for a in range(len(vectors)):
        farthest, nearest = -math.inf, math.inf
        for other in range(len(vectors)):
            distance = (vectors[a] - vectors[other]).pow(2).sum().sqrt().item()
            if other != a and identity[other] == identity[a]:
                farthest = max(farthest, distance)
            if identity[other] != identity[a]:
                nearest = min(nearest, distance)
        if math.isfinite(farthest) and math.isfinite(nearest):
            difference = farthest - nearest
            soft = math.log1p(math.exp(difference))
            total += soft if margin is None else max(0.0, margin + difference)
            count += 1
    return total / count


@pytest.mark.parametrize("margin", [None, 0.3])
def test_batch_hard_is_what_three_loops_give(margin):
    torch.manual_seed(1)
    vectors, identity = torch.randn(14, 5), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 5, 5])
    assert batch_hard(vectors, identity, margin).item() == pytest.approx(
        loops(vectors, identity, margin), rel=1e-5
    )


def test_equal_vectors_cost_ln_2_a_crop_and_have_a_finite_gradient():
    vectors = torch.ones(6, 4, requires_grad=True)
    loss = batch_hard(vectors, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert torch.isfinite(vectors.grad).all()


def test_a_batch_of_one_person_or_of_single_sightings_costs_nothing():
    vectors = torch.randn(4, 3)
    assert batch_hard(vectors, torch.zeros(4, dtype=torch.long)) == 0
    assert batch_hard(vectors, torch.arange(4)) == 0
    assert batch_hard(vectors[:0], torch.zeros(0, dtype=torch.long)) == 0


def test_the_teacher_s_distances_are_reached_by_turned_vectors_and_unseen_crops_do_not_count():
    torch.manual_seed(0)
    teacher = F.normalize(torch.randn(5, 3), dim=1)
    turned = teacher @ torch.linalg.qr(torch.randn(3, 3))[0]
    assert teacher_distances(turned, teacher).item() == pytest.approx(0, abs=1e-10)
    unseen = teacher.clone()
    unseen[0] = 0
    moved = turned.clone()
    moved[0] = -moved[0]
    assert teacher_distances(moved, unseen).item() == pytest.approx(0, abs=1e-10)
    assert teacher_distances(moved, teacher).item() > 0.01
    assert teacher_distances(moved, torch.zeros(5, 3)) == 0


def found(config, number=6):
    torch.manual_seed(0)
    raw = torch.randn(number, config.stripes, config.width, requires_grad=True)
    return PartVectors(raw, raw * 1.0)


def test_the_total_is_the_weighted_sum_and_unknown_people_teach_only_distances():
    factors = LossWeights(identity=2.0, triplet=0.5, teacher=3.0)
    loss = ReidLoss(SMALL_IDE, 3, factors)
    teacher = F.normalize(torch.randn(6, 8), dim=1)
    identity = torch.tensor([0, 0, 1, 1, -1, -1])
    vectors = found(SMALL_IDE)
    total, parts = loss(vectors, identity, teacher)
    assert total.item() == pytest.approx(
        2 * parts["identity"].item() + 0.5 * parts["triplet"].item() + 3 * parts["teacher"].item()
    )
    known = PartVectors(vectors.raw[:4], vectors.vectors[:4])
    _, alone = loss(known, identity[:4], teacher[:4])
    assert alone["identity"].item() == pytest.approx(parts["identity"].item())
    assert alone["triplet"].item() == pytest.approx(parts["triplet"].item())
    assert alone["teacher"].item() != pytest.approx(parts["teacher"].item())


def test_each_stripe_has_its_own_classifier_and_their_losses_are_summed():
    loss = ReidLoss(SMALL_PCB, 4, own_weights(SMALL_PCB))
    vectors, identity = found(SMALL_PCB), torch.tensor([0, 1, 2, 3, 0, 1])
    _, parts = loss(vectors, identity, torch.zeros(6, 0))
    by_hand = sum(
        F.cross_entropy(classifier(vectors.vectors[:, part]), identity)
        for part, classifier in enumerate(loss.classifiers)
    )
    assert len(loss.classifiers) == 6
    assert parts["identity"].item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_what_cannot_be_learned_is_refused_in_one_line():
    with pytest.raises(ValueError, match="identities: got 1, an embedder learns from two"):
        ReidLoss(SMALL_IDE, 1, own_weights(SMALL_IDE))
    with pytest.raises(ValueError, match="losses: got none above 0"):
        LossWeights()
    with pytest.raises(ValueError, match="losses triplet: got -1"):
        LossWeights(triplet=-1)


def test_cosines_are_multiplied_by_a_factor_that_is_learned():
    loss = ReidLoss(WRN, 4, own_weights(WRN))
    vectors, identity = found(WRN), torch.tensor([0, 1, 2, 3, -1, 1])
    with torch.no_grad():
        loss.factor.fill_(1.5)
    _, parts = loss(vectors, identity, torch.zeros(6, 0))
    weight = F.normalize(loss.classifiers[0].weight, dim=1)
    cosines = F.normalize(vectors.vectors[:, 0], dim=1) @ weight.T
    logits = math.log1p(math.exp(1.5)) * cosines
    by_hand = F.cross_entropy(logits, identity, ignore_index=-1) + 0.05 * 1.5**2
    assert parts["identity"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    parts["identity"].backward()
    assert loss.factor.grad.abs() > 0
    longer = PartVectors(vectors.raw, 7 * vectors.vectors)
    assert loss(longer, identity, torch.zeros(6, 0))[0].item() == pytest.approx(by_hand.item())


def test_vectors_of_length_1_are_scaled_as_those_of_joint_networks():
    loss = ReidLoss(CNN5, 9, own_weights(CNN5))
    vectors, identity = found(CNN5), torch.tensor([0, 1, 2, 8, -1, 1])
    _, parts = loss(vectors, identity, torch.zeros(6, 0))
    scaled = math.sqrt(2) * math.log(8) * F.normalize(vectors.vectors[:, 0], dim=1)
    by_hand = F.cross_entropy(scaled @ loss.classifiers[0].weight.T, identity, ignore_index=-1)
    assert parts["identity"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_sets_of_one_person_are_nearer_than_those_of_two_by_the_margin():
    factors = LossWeights(sets=1.0)
    loss = ReidLoss(SMALL_QAN, 2, factors)
    identity = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1])
    torch.manual_seed(0)
    raw = torch.randn(9, 1, 5)
    quality = torch.rand(9).requires_grad_()
    total, parts = loss(PartVectors(raw, raw, quality), identity, torch.zeros(9, 0))
    unit = F.normalize(raw[:, 0], dim=1) * quality.detach()[:, None]
    a, b, c, d = (F.normalize(unit[i : i + 2].sum(0), dim=0) for i in (0, 2, 4, 6))
    by_hand = []
    for anchor, same, others in ((a, b, (c, d)), (b, a, (c, d)), (c, d, (a, b)), (d, c, (a, b))):
        nearest = min((anchor - other).norm().item() for other in others)
        by_hand.append(max(0.0, 1.2 + (anchor - same).norm().item() - nearest))
    assert parts["sets"].item() == pytest.approx(sum(by_hand) / 4, rel=1e-5)
    total.backward()
    assert (quality.grad[:8].abs() > 0).all()
    assert quality.grad[8] == 0
    with pytest.raises(ValueError, match=r"losses sets: got 1\.0 with reid-small-ide, expected a"):
        ReidLoss(SMALL_IDE, 2, factors)
    with pytest.raises(ValueError, match="losses classifier: got 'arc', expected linear"):
        LossWeights(identity=1.0, classifier="arc")

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional as F

from jde_ray.models.losses.config import EMBEDDING_LOSSES
from jde_ray.models.losses.embedding import (
    EmbeddingLoss,
    OnlineInstanceMatching,
    embedding_scale,
    triplet,
    upper_bound,
)


def unit(*rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


def plain(embedding, identity, scale, margin=0.0):
    """Equations 1 and 2 written out with loops."""
    first, second = [], []
    for i, f in enumerate(embedding):
        others = [j for j in range(len(identity)) if j != i]
        positives = [float(scale * f @ embedding[j]) for j in others if identity[j] == identity[i]]
        if not positives:
            continue
        negatives = [float(scale * f @ embedding[j]) for j in others if identity[j] != identity[i]]
        gaps = [negative - min(positives) for negative in negatives]
        first.append(sum(max(0.0, gap + scale * margin) for gap in gaps))
        second.append(math.log(1 + sum(math.exp(gap) for gap in gaps)))
    return (sum(first) / len(first), sum(second) / len(second)) if first else (0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(
    identity=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
    scale=st.floats(1, 15),
)
def test_triplet_and_its_bound_are_equations_1_and_2(identity, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    embedding = F.normalize(
        torch.randn(len(identity), 5, dtype=torch.float64, generator=generator), dim=1
    )
    numbers = torch.tensor(identity)
    first, second = plain(embedding, identity, scale)
    assert float(triplet(embedding, numbers, scale)) == pytest.approx(first, abs=1e-9)
    assert float(upper_bound(embedding, numbers, scale)) == pytest.approx(second, abs=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_a_margin_is_asked_of_every_negative(margin):
    generator = torch.Generator().manual_seed(2)
    embedding = F.normalize(torch.randn(8, 5, dtype=torch.float64, generator=generator), dim=1)
    numbers = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    expected, _ = plain(embedding, numbers.tolist(), 7.0, margin)
    assert float(triplet(embedding, numbers, 7.0, margin)) == pytest.approx(expected, abs=1e-9)


def test_with_a_margin_a_nearly_collapsed_embedding_costs_something():
    embedding = unit([1, 0, 0], [1, 0.001, 0], [1, 0, 0.002], [1, 0.001, 0.002])
    numbers = torch.tensor([0, 0, 1, 1])
    assert float(EmbeddingLoss("triplet", 3, 2)(embedding, numbers)) == 0
    embedding.requires_grad_()
    value = EmbeddingLoss("triplet", 3, 2, margin=0.3)(embedding, numbers)
    value.backward()
    assert float(value.detach()) > 0.1
    assert embedding.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "margin", "message"),
    [
        (
            "upper_bound",
            0.3,
            "margin: got 0.3 with upper_bound, expected embedding_loss triplet",
        ),
        ("triplet", -0.1, "margin: got -0.1, expected 0 to 2"),
        ("triplet", math.nan, "margin: got nan, expected 0 to 2"),
    ],
)
def test_margins_that_cannot_be_are_refused(kind, margin, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingLoss(kind, 3, 2, margin)


def test_equation_3_is_equation_2():
    embedding = unit([1, 0, 0.2], [0.8, 0.3, 0], [0, 1, 0.1], [0.2, 0.9, 0.9])
    numbers = torch.tensor([0, 0, 1, 2])
    f, positive, negatives = embedding[0], embedding[1], embedding[2:]
    e = math.exp(float(f @ positive))
    third = -math.log(e / (e + sum(math.exp(float(f @ n)) for n in negatives)))
    f2, p2 = embedding[1], embedding[0]
    e2 = math.exp(float(f2 @ p2))
    other = -math.log(e2 / (e2 + sum(math.exp(float(f2 @ n)) for n in negatives)))
    assert float(upper_bound(embedding, numbers, 1.0)) == pytest.approx((third + other) / 2)


def test_the_bound_is_above_a_single_negatives_triplet():
    embedding = unit([1, 0], [0.6, 0.8], [0.9, 0.1])
    numbers = torch.tensor([0, 0, 1])
    assert upper_bound(embedding, numbers, 3.0) > triplet(embedding, numbers, 3.0) > 0


def test_cross_entropy_is_equation_4_with_the_embedding_scale():
    loss = EmbeddingLoss("cross_entropy", 3, 4).double()
    assert loss.scale == pytest.approx(math.sqrt(2) * math.log(3))
    embedding = unit([1, 0, 0.2], [0.8, 0.3, 0])
    logits = loss.scale * embedding @ loss.classifier.weight.T + loss.classifier.bias
    expected = -(logits[0].softmax(0)[2].log() + logits[1].softmax(0)[1].log()) / 2
    torch.testing.assert_close(loss(embedding, torch.tensor([2, 1])), expected)


def test_the_published_scale():
    assert embedding_scale(14455) == pytest.approx(13.5464, abs=1e-4)


@pytest.mark.parametrize("kind", EMBEDDING_LOSSES)
@pytest.mark.parametrize("identity", [[-1, -1, -1], []], ids=["unknown", "nobody"])
def test_without_identities_it_is_zero_and_reaches_every_parameter(kind, identity):
    loss = EmbeddingLoss(kind, 4, 5)
    embedding = torch.randn(len(identity), 4, requires_grad=True)
    value = loss(embedding, torch.tensor(identity, dtype=torch.int64))
    value.backward()
    assert float(value.detach()) == 0
    assert all(p.grad is not None and (p.grad == 0).all() for p in loss.parameters())


@pytest.mark.parametrize("kind", EMBEDDING_LOSSES)
def test_unknown_identities_do_not_matter(kind):
    torch.manual_seed(0)
    loss = EmbeddingLoss(kind, 4, 5).eval()  # the looks of `oim` stand still
    embedding = F.normalize(torch.randn(6, 4), dim=1)
    identity = torch.tensor([0, 0, 1, -1, -1, 1])
    known = identity >= 0
    torch.testing.assert_close(
        loss(embedding, identity), loss(embedding[known], identity[known]), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", EMBEDDING_LOSSES)
def test_gradients_match_finite_differences(kind):
    torch.manual_seed(1)
    loss = EmbeddingLoss(kind, 4, 5).double().eval()
    if kind == "oim":
        loss.matching.looks.normal_()
    raw = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    identity = torch.tensor([0, 0, 1, 1, 1, 2, -1])
    parameters = list(loss.parameters())

    def total(x, *_parameters):
        return loss(F.normalize(x, dim=1), identity)

    assert gradcheck(total, (raw, *parameters))


def test_online_matching_compares_with_looks_that_follow_each_batch():
    loss = OnlineInstanceMatching(2, 3)
    embedding, identity = unit([1, 0], [0, 1], [1, 1]).float(), torch.tensor([0, 0, 2])
    assert loss(embedding, identity).item() == pytest.approx(math.log(3))  # nobody is known yet
    slant = math.sqrt(0.5)
    torch.testing.assert_close(loss.looks, torch.tensor([[slant, slant], [0, 0], [slant, slant]]))
    logits = embedding @ loss.looks.T / 0.1
    pairs = zip(logits, identity, strict=True)
    by_hand = [float(torch.logsumexp(row, 0) - row[who]) for row, who in pairs]
    loss.eval()
    assert loss(embedding, identity).item() == pytest.approx(sum(by_hand) / 3)
    before = loss.looks.clone()
    loss(embedding, identity)
    assert torch.equal(loss.looks, before)  # only training moves them
    loss.train()
    loss(embedding[:1], identity[:1])
    moved = F.normalize(torch.tensor([(slant + 1) / 2, slant / 2]), dim=0)
    torch.testing.assert_close(loss.looks[0], moved)


def test_an_unknown_loss_is_refused_with_the_accepted_names():
    with pytest.raises(ValueError, match=r"cross_entropy \| triplet \| upper_bound"):
        EmbeddingLoss("arcface", 4, 5)

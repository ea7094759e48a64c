"""Every strategy on a toy: two tasks of very different scale share one vector."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.autograd import gradcheck

from jde_ray.models.losses import weighting as module
from jde_ray.models.losses.config import WEIGHTINGS, LossConfig
from jde_ray.models.losses.weighting import TaskGroup, build_weighting, min_norm

GROUP = TaskGroup(("box", "identity"), (0,), (True, False), (0.0, 0.0))


class Toy:
    """Losses `5 |z - a|^2 + 0.3` and `500 |z - b|^2 + 30` of shared features `z = x + v`."""

    def __init__(self):
        self.v = torch.nn.Parameter(torch.zeros(2))
        self.a, self.b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    def losses(self):
        z = self.v + torch.zeros(3, 2)
        box = 5 * (z - self.a).pow(2).mean() + 0.3
        identity = 500 * (z - self.b).pow(2).mean() + 30
        return {"box": box, "identity": identity}, [z]


def named(name, groups, **settings):
    return build_weighting(LossConfig(weighting=name, **settings), groups)


def train(name, steps=400, rate=0.05, groups=(GROUP,)):
    toy, weighting = Toy(), named(name, groups)
    optimiser = torch.optim.Adam([toy.v, *weighting.parameters()], lr=rate)
    for _ in range(steps):
        losses, shared = toy.losses()
        optimiser.zero_grad()
        weighting(losses, shared).backward()
        optimiser.step()
    return toy, weighting


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_every_strategy_improves_the_toy(name):
    before, _ = Toy().losses()
    toy, weighting = train(name)
    after, _ = toy.losses()
    improved = sum(float(after[t].detach()) < float(before[t].detach()) for t in before)
    assert improved >= 1
    assert set(weighting.current_weights()) == {"box", "identity"}


def test_uniform_weights_let_the_larger_loss_win():
    toy, _ = train("uniform")
    np.testing.assert_allclose(toy.v.detach(), [0.01, 0.99], atol=0.02)


def test_fixed_weights_are_the_papers():
    toy, weighting = train("fixed")
    assert weighting.current_weights() == {"box": 64.0, "identity": 0.1}
    # 64 x 5 against .1 x 500: six to one for the box
    np.testing.assert_allclose(toy.v.detach(), [320 / 370, 50 / 370], atol=0.02)


def test_learned_uncertainty_balances_and_each_weight_is_half_over_its_loss():
    toy, weighting = train("uncertainty", steps=1500, rate=0.1)
    losses, _ = toy.losses()
    for task, weight in weighting.current_weights().items():
        # the derivative of (exp(-s) L + s) / 2 is 0 where exp(s) = L
        assert weight == pytest.approx(0.5 / float(losses[task].detach()), rel=0.05)
    ratio = weighting.current_weights()["box"] / weighting.current_weights()["identity"]
    assert ratio > 2


def test_learned_uncertainty_starts_where_it_is_told_and_follows_equation_6():
    weighting = named("uncertainty", [TaskGroup(("a", "b"), (0,), (True,) * 2, (-4, 2))])
    losses = {"a": torch.tensor(0.02), "b": torch.tensor(7.0)}
    expected = 0.5 * (np.exp(4) * 0.02 - 4) + 0.5 * (np.exp(-2) * 7 + 2)
    assert float(weighting(losses, []).detach()) == pytest.approx(expected, abs=1e-5)


def test_gradient_of_equation_6_matches_finite_differences():
    weighting = named("uncertainty", [GROUP]).double()
    losses = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, 9.0)]
    s = list(weighting.parameters())
    assert gradcheck(lambda a, b, *_: weighting({"box": a, "identity": b}, []), (*losses, *s))


def test_loss_normalisation_divides_by_the_moving_average():
    weighting = named("loss_norm", [GROUP])
    for scale in (1.0, 3.0):
        losses = {"box": torch.tensor(0.2 * scale), "identity": torch.tensor(40.0 * scale)}
        total = weighting(losses, [])
    average = (0.99 * 0.01 * 0.2 + 0.01 * 0.6) / (1 - 0.99**2)
    assert weighting.current_weights()["box"] == pytest.approx(1 / average, rel=1e-4)
    assert float(total) == pytest.approx(2 * 0.6 / average, rel=1e-4)


def test_a_loss_of_zero_does_not_spoil_the_moving_average():
    weighting = named("loss_norm", [GROUP])
    weighting({"box": torch.tensor(0.2), "identity": torch.tensor(0.0)}, [])
    assert weighting.current_weights() == pytest.approx({"box": 5.0, "identity": 1.0})
    weighting({"box": torch.tensor(0.2), "identity": torch.tensor(4.0)}, [])
    weighting({"box": torch.tensor(0.2), "identity": torch.tensor(0.0)}, [])
    assert weighting.current_weights()["identity"] == pytest.approx(0.25)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tasks=st.integers(2, 4))
def test_min_norm_is_the_shortest_convex_combination(seed, tasks):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(tasks, 6)) * np.exp(rng.uniform(-2, 2, (tasks, 1)))
    gram = torch.tensor(rows @ rows.T)
    weights = min_norm(gram).numpy()
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    best = minimize(
        lambda w: w @ gram.numpy() @ w,
        np.full(tasks, 1 / tasks),
        bounds=[(0, 1)] * tasks,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert weights @ gram.numpy() @ weights <= best.fun * (1 + 1e-5) + 1e-7


def test_min_norm_of_two_orthogonal_gradients_and_of_a_silent_one():
    weights = min_norm(torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)))
    np.testing.assert_allclose(weights, [0.8, 0.2], atol=1e-6)
    weights = min_norm(torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64)))
    np.testing.assert_allclose(weights, [1.0, 0.0])


def test_mgda_steps_down_for_both_tasks_and_stops_where_they_only_trade():
    toy, weighting = Toy(), named("mgda", [GROUP])
    with torch.no_grad():
        toy.v.copy_(torch.tensor([1.0, 1.0]))
    losses, shared = toy.losses()
    weighting(losses, shared).backward()
    step = toy.v.detach() - 1e-4 * toy.v.grad
    with torch.no_grad():
        toy.v.copy_(step)
    after, _ = toy.losses()
    assert all(float(after[t].detach()) < float(losses[t].detach()) for t in losses)
    assert sum(weighting.current_weights().values()) == pytest.approx(1)
    toy, _ = train("mgda", steps=300)
    assert float(toy.v.sum().detach()) == pytest.approx(1, abs=0.05)  # between a and b


def test_mgda_weighs_each_head_by_its_own_features():
    groups = [
        TaskGroup((f"box_{i}", f"identity_{i}"), (i,), (True, False), (0.0, 0.0)) for i in (0, 1)
    ]
    weighting = named("mgda", groups)
    maps = [torch.ones(2, requires_grad=True) * 1.0 for _ in range(2)]
    losses = {
        "box_0": maps[0][0] * 1,
        "identity_0": maps[0][1] * 2,
        "box_1": maps[1][0] * 3,
        "identity_1": maps[1][1] * 3,
    }
    weighting(losses, maps)
    weights = weighting.current_weights()
    assert [weights[t] for t in losses] == pytest.approx([0.8, 0.2, 0.5, 0.5], abs=1e-6)


def test_an_unknown_strategy_is_refused_with_the_accepted_names():
    with pytest.raises(ValueError, match=r"uncertainty \| uniform \| fixed \| loss_norm \| mgda"):
        LossConfig(weighting="gradnorm")


def test_fixed_weights_and_an_equal_start_are_settings():
    assert named("fixed", [GROUP], fixed_weights=(8.0, 0.3)).current_weights() == {
        "box": 8.0,
        "identity": 0.3,
    }
    group = TaskGroup(("box", "identity"), (0,), (True, False), (-4.85, -2.3))
    equal = named("uncertainty", [group], uncertainty_start="equal")
    assert equal.current_weights() == {"box": 0.5, "identity": 0.5}
    assert named("uncertainty", [group]).current_weights()["box"] == pytest.approx(np.exp(4.85) / 2)


@pytest.fixture
def _two_trainers(monkeypatch):
    """This process and another one, whose losses and gradients are three times as large."""

    def all_reduce(tensor):
        tensor *= 10 if tensor.ndim == 2 else 4  # products of gradients; losses

    monkeypatch.setattr(module.torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(module.torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(module.torch.distributed, "all_reduce", all_reduce)


@pytest.mark.usefixtures("_two_trainers")
def test_loss_normalisation_of_several_trainers_follows_the_mean_of_their_losses():
    weighting = named("loss_norm", [GROUP])
    weighting({"box": torch.tensor(0.2), "identity": torch.tensor(4.0)}, [])
    assert weighting.current_weights() == pytest.approx({"box": 1 / 0.4, "identity": 1 / 8})


def heads(scales, lengths=((1.0, 2.0), (3.0, 3.0))):
    """Two heads of two tasks with orthogonal gradients of these lengths, and these losses."""
    maps = [torch.ones(2, requires_grad=True) * 1.0 for _ in lengths]
    losses = {
        f"{task}_{head}": (maps[head][number] - 1) * lengths[head][number] + scales[number]
        for head in range(len(lengths))
        for number, task in enumerate(("box", "identity"))
    }
    groups = [
        TaskGroup((f"box_{i}", f"identity_{i}"), (i,), (True, False), (0.0, 0.0))
        for i in range(len(lengths))
    ]
    return groups, losses, maps


def test_mgda_over_all_tasks_is_one_shortest_combination():
    groups, losses, maps = heads((1.0, 1.0))
    weighting = named("mgda", groups, mgda_over="all")
    weighting(losses, maps)
    squares = torch.tensor([1.0, 4.0, 9.0, 9.0], dtype=torch.float64)
    expected = min_norm(torch.diag(squares)).numpy()
    got = [weighting.current_weights()[task] for task in losses]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert sum(got) == pytest.approx(1)


def test_a_head_without_gradients_gets_nothing_of_the_weights_over_all_tasks():
    groups, losses, maps = heads((1.0, 1.0), ((1.0, 1.0), (0.0, 0.0)))
    weighting = named("mgda", groups, mgda_over="all")
    weighting(losses, maps)
    assert list(weighting.current_weights().values()) == pytest.approx([0.5, 0.5, 0, 0])


def test_normalised_mgda_divides_gradients_by_length_and_loss():
    groups, losses, maps = heads((2.0, 1.0))
    weighting = named("mgda", groups, mgda_normalised=True)
    weighting(losses, maps)
    # unit gradients over their losses: lengths 1/2 and 1, so that their squares are 1 to 4
    got = [weighting.current_weights()[task] for task in losses]
    assert got == pytest.approx([0.8, 0.2, 0.8, 0.2], abs=1e-6)

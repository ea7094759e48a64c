"""The autoregression in numpy: predictions, densities, files."""

import numpy as np
import pytest
import torch
from recurrent_weights import newest, parameters
from scipy.stats import norm

from jde_ray.models.motion.config import CONFIGURATIONS
from jde_ray.models.motion.network import MotionNet, load_into, save, to_numpy
from jde_ray.models.tracking import autoregression
from jde_ray.models.tracking.autoregression import HIDDEN, INPUTS, MEMORY, SHAPES


def blank(people):
    return np.zeros((HIDDEN, people)), np.zeros((MEMORY, INPUTS, people))


def test_a_constant_velocity_is_foretold_exactly_by_the_newest_input():
    model = newest()
    before = np.array([[100.0, 50], [80, 60], [20, 30], [60, 90]])
    speed = np.array([[3.0, -1], [0.5, 2], [0, 0], [0, 0]])
    hidden, memory = blank(2)
    for frame in range(1, 6):
        inputs = autoregression.to_input(before, before + speed, 1.0)
        if frame > 1:
            mean, _ = model.predict(hidden, memory)
            np.testing.assert_allclose(mean, inputs, rtol=1e-12, atol=1e-12)
        hidden, memory = model.take(hidden, memory, inputs)
        before = before + speed


def test_the_log_density_is_that_of_scipy():
    rng = np.random.default_rng(0)
    inputs, mean, log_variance = rng.normal(size=(3, INPUTS, 7))
    want = norm.logpdf(inputs, mean, np.exp(log_variance / 2)).sum(axis=0)
    np.testing.assert_allclose(autoregression.log_density(inputs, mean, log_variance), want)


def test_a_change_over_several_frames_counts_per_frame_and_height():
    before, after = np.array([10.0, 20, 30, 40]), np.array([16.0, 20, 30, 52])
    assert autoregression.to_input(before, after, 3.0).tolist() == [1.0, 0.0, 0.0, 2.0]


def test_numpy_and_torch_agree():
    torch.manual_seed(0)
    model = MotionNet(CONFIGURATIONS["ran"])
    pieces = torch.randn(3, 14, INPUTS)
    with torch.no_grad():
        want_mean, want_spread = (part.numpy() for part in model(pieces))
        want = model.log_density(pieces).numpy()
    here = to_numpy(model)
    hidden, memory = blank(3)
    for step in range(14):
        inputs = pieces[:, step].numpy().T.astype(np.float64)
        mean, spread = here.predict(hidden, memory)
        np.testing.assert_allclose(mean.T, want_mean[:, step], atol=1e-5)
        np.testing.assert_allclose(spread.T, want_spread[:, step], atol=1e-5)
        density = autoregression.log_density(inputs, mean, spread)
        np.testing.assert_allclose(density, want[:, step], atol=1e-4)
        hidden, memory = here.take(hidden, memory, inputs)


def test_a_file_holds_the_parameters_and_its_notes(tmp_path):
    model, other = (MotionNet(CONFIGURATIONS["ran"]) for _ in range(2))
    save(model, tmp_path / "ran.safetensors", {"licence": "test only"})
    assert load_into(other, tmp_path / "ran.safetensors") == len(SHAPES)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_parameters_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"spread: got shape \(4, 3\), expected \(4, 32\)"):
        parameters(spread=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="least: got a number that is not finite"):
        parameters(least=np.array(np.nan))

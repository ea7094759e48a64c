"""The autoregressions in numpy: predictions, densities, files, components of embeddings."""

import numpy as np
import pytest
import torch
from recurrent_weights import newest, newest_looks, parameters
from scipy.stats import multivariate_normal, norm

from jde_ray.models.motion.config import CONFIGURATIONS
from jde_ray.models.motion.network import MotionNet, load_into, save, to_numpy
from jde_ray.models.tracking import autoregression, projection, ran_weights
from jde_ray.models.tracking.autoregression import HIDDEN, INPUTS, MEMORY, NAMES
from jde_ray.models.tracking.ran_weights import LOOK_HIDDEN, RanWeights


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


def test_the_densities_of_all_pairs_are_those_of_scipy():
    rng = np.random.default_rng(1)
    inputs, (mean, log_variance) = rng.normal(size=(6, 5)), rng.normal(size=(2, 6, 3))
    got = autoregression.pair_density(inputs, mean, log_variance)
    for track in range(3):
        spread = np.diag(np.exp(log_variance[:, track]))
        want = multivariate_normal.logpdf(inputs.T, mean[:, track], spread)
        np.testing.assert_allclose(got[track], want, rtol=1e-10)


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
    here = to_numpy(model).motion
    hidden, memory = blank(3)
    for step in range(14):
        inputs = pieces[:, step].numpy().T.astype(np.float64)
        mean, spread = here.predict(hidden, memory)
        np.testing.assert_allclose(mean.T, want_mean[:, step], atol=1e-5)
        np.testing.assert_allclose(spread.T, want_spread[:, step], atol=1e-5)
        density = autoregression.log_density(inputs, mean, spread)
        np.testing.assert_allclose(density, want[:, step], atol=1e-4)
        hidden, memory = here.take(hidden, memory, inputs)


def some_embeddings(number=60, width=12):
    rng = np.random.default_rng(3)
    return projection.unit(rng.normal(size=(number, width)) * np.linspace(1, 3, width) + 0.5)


def test_numpy_and_torch_agree_on_appearance():
    torch.manual_seed(0)
    model = MotionNet(CONFIGURATIONS["ran"])
    model.see(projection.fit(some_embeddings()))
    pieces = some_embeddings(28).reshape(2, 14, 12)
    looks = to_numpy(model).looks
    with torch.no_grad():
        inputs = model.looks.components(torch.from_numpy(pieces).float())
        want = model.looks.log_density(inputs).numpy()
    kept = np.zeros((looks.regression.numbers, 2))
    for step in range(14):
        seen = looks.projection.apply(pieces[:, step])
        np.testing.assert_allclose(seen.T, inputs[:, step], atol=1e-4)
        if step:
            got = looks.likelihoods(kept, seen, 0.0).diagonal()
            np.testing.assert_allclose(got, want[:, step], atol=1e-3)
        kept = looks.take(kept, seen)


def test_components_have_no_mean_unit_variance_and_no_correlation():
    looks = some_embeddings(200, 40)
    fitted = projection.fit(looks, "small", "abc")
    components = fitted.apply(looks)
    assert components.shape == (32, 200)
    np.testing.assert_allclose(components.mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(components @ components.T / 200, np.eye(32), atol=1e-9)
    assert not fitted.apply(np.zeros((1, 40))).any()  # no embedding
    few = projection.fit(looks[:, :3] @ np.eye(3, 40))  # which vary in three directions
    assert (few.num_components, few.width) == (3, 40)
    with pytest.raises(ValueError, match="embeddings: got 2 that do not differ"):
        projection.fit(np.ones((2, 40)))


def test_who_has_no_embedding_takes_no_part_and_changes_nothing():
    looks = newest_looks(4).looks
    kept = np.zeros((looks.regression.numbers, 2))
    seen = looks.projection.apply(np.eye(2, 4))
    seen[:, 1] = 0
    kept = looks.take(kept, seen)
    assert kept[LOOK_HIDDEN:, 0].any()
    assert not kept[:, 1].any()
    got = looks.likelihoods(kept, seen, -7.0)
    assert got[0, 0] == pytest.approx(norm.logpdf(np.zeros(4)).sum())
    assert got.ravel()[1:].tolist() == [-7.0] * 3


def test_a_file_holds_the_parameters_and_its_notes(tmp_path):
    model, other = (MotionNet(CONFIGURATIONS["ran"]) for _ in range(2))
    save(model, tmp_path / "ran.safetensors", {"licence": "test only"})
    assert load_into(other, tmp_path / "ran.safetensors") == len(NAMES)
    assert other.looks is None
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    model.see(projection.fit(some_embeddings(), "small", "abc"))
    save(model, tmp_path / "looks.safetensors")
    assert load_into(other, tmp_path / "looks.safetensors") == 2 * len(NAMES) + 2
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    held = ran_weights.read(tmp_path / "looks.safetensors").looks.projection
    assert (held.embedder, held.embedder_sha256) == ("small", "abc")


def test_a_file_from_before_appearance_was_learned_tells_motion_alone(tmp_path):
    RanWeights(motion=newest()).save(tmp_path / "ran.safetensors")
    held = ran_weights.read(tmp_path / "ran.safetensors")
    assert held.looks is None
    np.testing.assert_array_equal(held.motion.least, -12.0)


def test_a_file_of_other_sizes_is_refused(tmp_path):
    RanWeights(motion=newest((5, HIDDEN))).save(tmp_path / "ran.safetensors")
    with pytest.raises(ValueError, match="got motion of 5 inputs and 32 hidden, expected 4 and 32"):
        ran_weights.read(tmp_path / "ran.safetensors")


def test_parameters_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"spread: got shape \(4, 3\), expected \(4, 32\)"):
        parameters(spread=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="least: got a number that is not finite"):
        parameters(least=np.array(np.nan))

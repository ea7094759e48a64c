import pytest
import torch
from safetensors.torch import load_file, save_file

from jde_ray.models.jde import weights
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.network import JDE


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(JDE(SMALL), path, {"licence": "test only"})
    return path


def test_what_was_saved_is_loaded(saved):
    torch.manual_seed(0)
    original = JDE(SMALL).state_dict()
    loaded = weights.load(saved)
    assert loaded.config == SMALL
    assert not loaded.training
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, original[key])
    assert weights.metadata(saved)["licence"] == "test only"


def test_half_precision_kernels_halve_the_file_and_load_as_float32(saved, tmp_path):
    model = weights.load(saved)
    half = tmp_path / "half.safetensors"
    weights.save(model, half, half=True)
    assert half.stat().st_size < 0.55 * saved.stat().st_size
    loaded = weights.load(half).state_dict()
    for key, value in model.state_dict().items():
        assert loaded[key].dtype == value.dtype
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-4)


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_weights_name_the_shipped_ones(tmp_path):
    with pytest.raises(weights.CheckpointError) as caught:
        weights.load(tmp_path / "nothing.safetensors")
    assert "shipped: " in one_line(caught)


def test_a_truncated_file_is_refused(saved, tmp_path):
    part = tmp_path / "part.safetensors"
    part.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(weights.CheckpointError) as caught:
        weights.load(part)
    assert "not a complete safetensors file" in one_line(caught)


def test_a_pickle_is_refused_without_being_run(tmp_path):
    torch.save({"model": {}}, tmp_path / "model.pt")
    with pytest.raises(weights.CheckpointError):
        weights.load(tmp_path / "model.pt")


def test_another_projects_safetensors_is_refused(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(weights.CheckpointError) as caught:
        weights.load(tmp_path / "other.safetensors")
    assert "no network configuration" in one_line(caught)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("neck.reduce.0.0.weight"), "lacks neck.reduce.0.0.weight"),
        (lambda s: s.update({"heads.0.box.bias": torch.zeros(7)}), r"of shape \(7,\), expected"),
        (lambda s: s.update({"extra": torch.zeros(1)}), "unknown key extra"),
    ],
    ids=["missing", "shape", "unknown"],
)
def test_keys_that_do_not_fit_are_named(saved, tmp_path, change, message):
    state = load_file(saved)
    change(state)
    path = tmp_path / "changed.safetensors"
    save_file(state, path, metadata=weights.metadata(saved))
    with pytest.raises(weights.CheckpointError, match=message):
        weights.load(path)


def test_a_size_that_is_no_multiple_of_32_is_refused(saved):
    with pytest.raises(weights.CheckpointError, match="multiples of 32"):
        weights.load(saved, (600, 320))


def test_an_onnx_file_needs_its_declaration(tmp_path):
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"\x08\x09" * 99)
    with pytest.raises(weights.CheckpointError, match=r"is an ONNX file; expected a YAML file"):
        weights.load(path)

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.reid import weights
from jde_ray.models.reid.config import SMALL_IDE, SMALL_MASK
from jde_ray.models.reid.crop_network import ReidCropNetwork
from jde_ray.models.reid.export import onnx_bytes, write_onnx
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.sde.declaration import DeclarationError, NetworkDeclaration
from jde_ray.models.sde.declaration_file import read_embedder
from jde_ray.models.sde.network import AppearanceEmbedder

CONFIG = replace(SMALL_IDE, name="tiny", size=(32, 64), backbone="shufflenet", scale_units=0)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = ReidNet(CONFIG).eval()
    weights.save(network, tmp_path / "reid.safetensors", {"licence": "test", "identities": "7"})
    return network, tmp_path / "reid.safetensors"


def picture():
    return np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)


BOXES = np.array([[5, 5, 40, 90], [-10, 20, 30, 130], [70, 10, 71, 20]], np.float32)


def test_a_file_gives_the_network_back_and_says_who_it_was_trained_on(saved):
    network, path = saved
    crops = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(weights.load(path)(crops), network(crops))
    facts = weights.metadata(path)
    assert (facts["licence"], facts["identities"], facts["network"]) == ("test", "7", "reid")


def test_an_embedder_of_our_weights_equals_the_network_on_the_crops_of_the_boxes(saved):
    network, path = saved
    embedder = AppearanceEmbedder(read_embedder(path), open_network=ReidCropNetwork)
    vectors = embedder.embed(picture(), BOXES)
    assert vectors.shape == (3, CONFIG.embedding_dim)
    assert not vectors[2].any()  # too narrow
    own = ReidCropNetwork(NetworkDeclaration(file=path))
    crops = [own.resized(picture()[5:90, 5:40]), own.resized(picture()[20:120, 0:30])]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = network(pixels).numpy()
    np.testing.assert_allclose(vectors[:2], expected, atol=1e-5)


def test_onnxruntime_and_torch_give_the_same_vectors(saved, monkeypatch):
    _, path = saved
    crop = [ReidCropNetwork(NetworkDeclaration(file=path)).resized(picture())]
    fast = ReidCropNetwork(NetworkDeclaration(file=path))(crop)[0]
    monkeypatch.setattr("jde_ray.models.reid.crop_network.find_spec", lambda name: None)
    plain = ReidCropNetwork(NetworkDeclaration(file=path))(crop)[0]
    np.testing.assert_allclose(fast, plain, atol=1e-5)


def test_the_exported_file_gives_the_vectors_of_the_weights(saved, tmp_path):
    network, path = saved
    write_onnx(network, tmp_path / "reid.onnx", {"licence": "test"})
    exported = AppearanceEmbedder(NetworkDeclaration(file=tmp_path / "reid.onnx"))
    ours = AppearanceEmbedder(read_embedder(path), open_network=ReidCropNetwork)
    np.testing.assert_allclose(
        exported.embed(picture(), BOXES), ours.embed(picture(), BOXES), atol=1e-5
    )


def test_a_network_that_tells_quality_tells_it_from_torch_from_onnx_and_exported(
    tmp_path, monkeypatch
):
    torch.manual_seed(0)
    network = ReidNet(replace(CONFIG, quality=True)).eval()
    torch.nn.init.normal_(network.quality.last.weight, std=3.0)
    weights.save(network, tmp_path / "qan.safetensors", {})
    write_onnx(network, tmp_path / "qan.onnx")
    declared = read_embedder(tmp_path / "qan.safetensors")
    files = [
        AppearanceEmbedder(declared, open_network=ReidCropNetwork),
        AppearanceEmbedder(NetworkDeclaration(file=tmp_path / "qan.onnx")),
    ]
    monkeypatch.setattr("jde_ray.models.reid.crop_network.find_spec", lambda name: None)
    files.append(AppearanceEmbedder(declared, open_network=ReidCropNetwork))
    own = ReidCropNetwork(declared)
    crops = [own.resized(picture()[5:90, 5:40]), own.resized(picture()[20:120, 0:30])]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = network.part_vectors(pixels).quality.numpy()
    assert abs(expected[0] - expected[1]) > 1e-4
    for embedder in files:
        found = embedder.describe(picture(), BOXES)
        np.testing.assert_allclose(found.quality, [*expected, 0.0], atol=1e-5)
        np.testing.assert_array_equal(found.vectors, embedder.embed(picture(), BOXES))


def test_files_of_other_networks_are_refused_in_one_line(saved, tmp_path):
    _, path = saved
    with pytest.raises(ValueError, match="holds a re-identification network; name it with --reid"):
        joint_files.load(path)
    with pytest.raises(CheckpointError, match="holds no re-identification network"):
        weights.load(joint_files.resolve("small"))
    with pytest.raises(CheckpointError, match="is missing"):
        weights.load(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        weights.load(tmp_path / "cut.safetensors")


def test_a_number_that_is_not_finite_is_refused(saved, tmp_path):
    _, path = saved
    state = load_file(path)
    state["linear.weight"][0, 0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors", weights.metadata(path))
    with pytest.raises(CheckpointError, match="holds NaN or Inf in linear"):
        weights.load(tmp_path / "nan.safetensors")


def test_a_weight_file_states_its_own_input(saved):
    _, path = saved
    with pytest.raises(DeclarationError, match="states its own input"):
        ReidCropNetwork(NetworkDeclaration(file=path, mean=(0.5, 0.5, 0.5)))


def test_a_masked_network_takes_any_number_of_crops_once_it_is_exported():
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = ReidNet(replace(SMALL_MASK, size=(32, 64))).eval()
    crops = torch.rand(3, 3, 64, 32)  # it is traced with two
    session = onnxruntime.InferenceSession(onnx_bytes(network))
    with torch.inference_mode():
        expected = network(crops).numpy()
    (found,) = session.run(None, {"crops": crops.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5)

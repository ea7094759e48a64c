from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.rcnn import weights
from jde_ray.models.rcnn.config import CONFIGURATIONS
from jde_ray.models.rcnn.network import RcnnNet

CONFIG = replace(
    CONFIGURATIONS["jde-frcnn-small"], name="tiny", pyramid_channels=16, head_widths=(16, 16)
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return RcnnNet(CONFIG).eval()


@pytest.fixture
def path(network, tmp_path):
    path = tmp_path / "deep" / "tiny.safetensors"
    weights.save(network, path, {"licence": "test", "boxes": "12", "identities": "7"})
    return path


def test_a_file_gives_the_network_back_and_says_what_it_was_trained_on(network, path):
    loaded = weights.load(path)
    frames = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    for ours, theirs in zip(loaded.detect(frames), network.detect(frames), strict=True):
        torch.testing.assert_close(torch.tensor(ours.tlbr), torch.tensor(theirs.tlbr))
    assert loaded.config == CONFIG
    facts = weights.metadata(path)
    assert (facts["licence"], facts["boxes"], facts["identities"]) == ("test", "12", "7")
    assert facts["network"] == "rcnn"


def test_a_loaded_network_learns_what_a_new_one_does(tmp_path):
    config = replace(CONFIG, embedding_dim=0, frozen_groups=2)
    weights.save(RcnnNet(config), tmp_path / "a.safetensors")
    loaded = weights.load(tmp_path / "a.safetensors")
    frozen = {name.split(".")[2] for name, p in loaded.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "stages"}
    assert loaded.trunk.backbone.stages[1].enter[0].weight.requires_grad


def damaged(path, change):
    state, facts = load_file(path), weights.metadata(path)
    change(state, facts)
    save_file(state, path, metadata=facts)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s, f: s.pop("rpn.box.bias"), r"lacks rpn\.box\.bias"),
        (lambda s, f: s.update(more=torch.zeros(1)), "unknown key more"),
        (lambda s, f: s["rpn.box.bias"].fill_(torch.nan), "holds NaN or Inf in rpn.box.bias"),
        (lambda s, f: f.update(config="{}"), "network configuration"),
        (lambda s, f: f.update(network="reid"), "holds no two-stage network"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(path, change, reason):
    with pytest.raises(CheckpointError, match=reason) as caught:
        weights.load(damaged(path, change))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"weights: {path}")


def test_a_file_that_is_missing_or_cut_off_is_refused(path):
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        weights.load(path)
    with pytest.raises(CheckpointError, match="is missing"):
        weights.load(path.with_name("other.safetensors"))

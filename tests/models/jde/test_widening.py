import pytest
import torch

from jde_ray.models.jde.config import BASE, SMALL, SMALL_SHUFFLENET
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.weights import load, save
from jde_ray.models.jde.widening import is_half, widen
from jde_ray.pipelines.training.kinds.registry import initialise


def test_a_widened_network_computes_the_same(tmp_path):
    trained = load("small").float().eval()
    wide = JDE(BASE).eval()
    save(trained, tmp_path / "small.safetensors", {})
    initialise(wide, tmp_path / "small.safetensors")
    images = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, theirs in zip(trained.maps(images), wide.maps(images), strict=True):
            for one, other in zip(mine, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_the_two_copies_of_a_channel_learn_different_things():
    narrow, wide = JDE(SMALL), JDE(BASE)
    widen(narrow, wide)
    wide.maps(torch.rand(2, 3, 64, 64))[2].box.square().mean().backward()
    gradient = wide.backbone.stages[1].enter[0].weight.grad
    assert gradient[:, 0::2].abs().sum() > 0
    assert not torch.allclose(gradient[0::2], gradient[1::2], rtol=1e-2)


def test_another_network_is_refused():
    assert not is_half(JDE(SMALL), JDE(SMALL_SHUFFLENET))
    with pytest.raises(ValueError, match="initial weights: a base network is not half of small"):
        widen(JDE(BASE), JDE(SMALL))

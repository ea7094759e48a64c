"""Folding and bfloat16 change nothing but rounding."""

import os

import pytest
import torch
from torch import nn

from jde_ray.models.jde.config import CONFIGURATIONS, SMALL, JDEConfig
from jde_ray.models.jde.fusion import fold_batch_norms, optimise
from jde_ray.models.jde.network import JDE


def build(backbone):
    """A small neck of the published layout over a backbone, with norms that do something."""
    values = CONFIGURATIONS["darknet53-576x320"].__dict__ | {
        "name": "tiny",
        "size": (64, 64),
        "backbone": backbone,
        "neck_channels": (32, 16, 8),
        "embedding_dim": 16,
    }
    torch.manual_seed(0)
    model = JDE(JDEConfig(**values)).eval()
    with torch.no_grad():
        for name, value in (*model.named_buffers(), *model.named_parameters()):
            if "running_var" in name:
                value.uniform_(0.5, 1.5)
            elif "running_mean" in name:
                value.normal_(std=0.1)
    return model


@pytest.mark.parametrize("backbone", ["shufflenet", "darknet53", "resnet50"])
def test_every_norm_is_folded_and_the_maps_stay(backbone):
    model = build(backbone)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with torch.inference_mode():
        before = model.maps(images)
        assert fold_batch_norms(model) == norms
        after = model.maps(images)
        assert fold_batch_norms(model) == 0  # once is enough, twice does no harm
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for a, b in zip(before, after, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4 * float(x.abs().max()))


def test_bfloat16_keeps_boxes_and_scores_in_float32():
    model = optimise(build("shufflenet"), "bf16")
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    images = model.normalise(frames)
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        maps = model.maps(images)
    assert {m.box.dtype for m in maps} == {m.score.dtype for m in maps} == {torch.float32}
    assert {m.embedding.dtype for m in maps} == {torch.bfloat16}
    found = model.detect(frames, 0.1)[0]
    assert found.tlbr.dtype == found.embeddings.dtype == "float32"
    assert not any(p.requires_grad for p in model.parameters())


def test_float32_is_float32_on_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as torch has it
    optimise(build("shufflenet"), "bf16")
    assert torch.backends.cudnn.allow_tf32
    optimise(build("shufflenet"), "fp32")
    assert not torch.backends.cudnn.allow_tf32


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        fold_batch_norms(JDE(SMALL).train())


def test_what_is_compiled_is_kept_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    optimise(build("shufflenet"), "fp32", compiled=True)
    folder = tmp_path / "cache" / "jde-ray" / "compiled"
    assert folder.is_dir()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    optimise(build("shufflenet"), "fp32", compiled=True)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"


def test_without_a_cache_torch_keeps_its_own_folder(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    optimise(build("shufflenet"), "fp32", compiled=True)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ

"""The GPU path equals the plain one. Run with `make test-gpu`."""

import numpy as np
import pytest
import torch

from models.jde.config import SMALL
from models.jde.cuda import CudaRunner
from models.jde.fusion import optimise
from models.jde.network import JDE


def build():
    torch.manual_seed(3)
    model = JDE(SMALL).eval()
    with torch.no_grad():
        for head in model.heads:  # untrained scores are all alike: spread them
            head.box.weight[4::5].normal_(std=0.5)
            head.box.bias[4::5] = 0.0
    return model


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (2, 96, 160, 3), dtype=torch.uint8, generator=generator)
        for _ in range(count)
    ]


def test_a_model_on_the_host_is_refused():
    with pytest.raises(ValueError, match="accepted is cuda"):
        CudaRunner(build())


@pytest.mark.gpu
def test_recorded_graphs_and_overlapped_copies_change_nothing():
    model = optimise(build().cuda(), "fp32")
    frames = batches(5)
    results = list(CudaRunner(model).detect(frames, 0.5))
    assert len(results) == 5
    for batch, found in zip(frames, results, strict=True):
        for one, other in zip(model.detect(batch, 0.5), found, strict=True):
            assert len(one.scores) == len(other.scores) > 0
            np.testing.assert_allclose(one.tlbr, other.tlbr, atol=1e-2)
            np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-3)


@pytest.mark.gpu
def test_the_published_network_fits_16_gb_at_batch_16():
    from models.jde.config import CONFIGURATIONS

    model = optimise(JDE(CONFIGURATIONS["darknet53-1088x608"]).eval().cuda(), "bf16")
    torch.cuda.reset_peak_memory_stats()
    model.detect(torch.zeros((16, 608, 1088, 3), dtype=torch.uint8), 0.99)
    assert torch.cuda.max_memory_allocated() < 16e9

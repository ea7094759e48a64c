"""The GPU path equals the plain one. Run with `make test-gpu`."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from jde_ray.models.jde import cuda
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.cuda import CudaRunner
from jde_ray.models.jde.fusion import optimise
from jde_ray.models.jde.network import JDE


def build():
    torch.manual_seed(3)
    model = JDE(SMALL).eval()
    with torch.no_grad():
        for head in model.heads:  # untrained scores are all alike: spread them
            head.box.weight[4::5].normal_(std=0.5)
            head.box.bias[4::5] = 0.0
    return model


def batches(count, height=96, width=160):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8, generator=generator)
        for _ in range(count)
    ]


def test_a_model_on_the_host_is_refused():
    with pytest.raises(ValueError, match="expected cuda"):
        CudaRunner(build())


class NoStream:
    """Stands in for streams and events where there is no GPU: everything is done at once."""

    def __init__(self, *_):
        pass

    def wait_event(self, event):
        assert event.recorded

    def record(self, _):
        self.recorded = True


class Replay:
    """A graph as recorded: its output lies where the last one's lay."""

    def __init__(self, model, frames):
        self.model, self.frames = model, frames
        self.maps = model.maps(model.normalise(frames))

    def replay(self):
        for old, new in zip(
            self.maps, self.model.maps(self.model.normalise(self.frames)), strict=True
        ):
            for mine, theirs in zip(old, new, strict=True):
                mine.copy_(theirs)


@pytest.fixture
def runner(monkeypatch):
    """A `CudaRunner` on the host, with stand-ins for what only CUDA has."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k | {"pin_memory": False}))
    monkeypatch.setattr(torch.cuda, "Event", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    model = optimise(build(), "fp32")
    runner = object.__new__(CudaRunner)
    runner._model, runner._device, runner._copies = model, torch.device("cpu"), NoStream()
    runner._slots, runner._graphs = {}, {}

    def record(frames):
        graph = Replay(model, frames.clone())
        return cuda._Graph(graph, graph.frames, graph.maps)

    monkeypatch.setattr(runner, "_record", record)
    return runner


def test_double_buffers_mix_nothing_up(runner):
    frames = batches(3, 32, 64)
    frames.insert(2, frames[0][:1])  # a batch of another shape between them
    for batch, found in zip(frames, runner.detect(iter(frames), 0.5), strict=True):
        for one, other in zip(runner._model.detect(batch, 0.5), found, strict=True):
            assert len(one.scores) > 0
            np.testing.assert_array_equal(one.tlbr, other.tlbr)
            np.testing.assert_array_equal(one.embeddings, other.embeddings)
    assert len(runner._graphs) == 2
    assert len(runner._slots) == 3  # two of the one shape, one of the other


def test_the_next_batch_runs_while_the_caller_has_the_last(runner, monkeypatch):
    events = []
    for name in ("_upload", "_launch"):
        original = getattr(runner, name)

        def watched(*arguments, name=name, original=original):
            events.append(name)
            return original(*arguments)

        monkeypatch.setattr(runner, name, watched)
    original = cuda.select
    monkeypatch.setattr(cuda, "select", lambda *a: events.append("select") or original(*a))
    results = runner.detect(batches(3, 32, 64), 0.5)
    while next(results, None) is not None:
        events.append("caller")
    first, step = ["_upload", "_launch"], ["_upload", "select", "_launch", "caller"]
    assert events == [*first, *step, *step, "select", "caller"]


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
    from jde_ray.models.jde.config import CONFIGURATIONS

    model = optimise(JDE(CONFIGURATIONS["darknet53-1088x608"]).eval().cuda(), "bf16")
    torch.cuda.reset_peak_memory_stats()
    model.detect(torch.zeros((16, 608, 1088, 3), dtype=torch.uint8), 0.99)
    assert torch.cuda.max_memory_allocated() < 16e9

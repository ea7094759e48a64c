"""What is recorded as a graph follows the rules of recording, checked without a GPU.

On meta tensors no number is computed; what asks the device for one, or brings one from the host, is
seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jde_ray.models.jde.config import CONFIGURATIONS, SMALL
from jde_ray.models.jde.decode import decode, select
from jde_ray.models.jde.fusion import optimise
from jde_ray.models.jde.gpu.building import plain
from jde_ray.models.jde.gpu.padded import Layer, Maps
from jde_ray.models.jde.gpu.padded_network import PaddedWeights
from jde_ray.models.jde.gpu.selection import Limits, Selection
from jde_ray.models.jde.network import JDE

GPU = torch.device("meta")
SIZE = (64, 96)
WAITS = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "item")


class Recording(TorchDispatchMode):
    """Refuses what may not be recorded: numbers from the host, and questions to the device."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = operation.name().removeprefix("aten::").partition(".")[0]
        assert name not in WAITS, f"{operation} waits for the device"
        result = operation(*args, **kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        assert devices <= {GPU.type}, f"{operation} works on {devices}"
        return result


class FromTheHost(TorchFunctionMode):
    """Refuses tensors of Python's numbers, which are copied to a device while it waits."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        made_here = (torch.tensor, torch.as_tensor, torch.from_numpy)
        assert function not in made_here, f"{function.__name__} waits for the device"
        return function(*args, **kwargs or {})


@contextmanager
def recording() -> Iterator[None]:
    with torch.inference_mode(), Recording(), FromTheHost():
        yield


class NoWork:
    """Takes the kernels' place: the results have their shapes."""

    def convolve(self, layer: Layer, source: Maps, out: Maps, added: Maps | None = None) -> None:
        assert source.storage.dtype == layer.weights.dtype
        channels = layer.weights.shape[1] // layer.taps
        assert (channels, layer.outputs) == (source.channels, out.channels)

    def convolve_pixels(self, layer: Layer, pixels: torch.Tensor, out: Maps) -> None:
        assert (pixels.dtype, pixels.shape[1:3]) == (torch.uint8, out.cells.shape[1:3])

    def multiply(self, layer: Layer, rows: torch.Tensor) -> torch.Tensor:
        assert rows.shape[1] == layer.weights.shape[1]
        return rows.new_empty((len(rows), layer.outputs), dtype=torch.float32)

    def suppress(self, tlbr: torch.Tensor, counts: torch.Tensor, threshold: float) -> torch.Tensor:
        assert (tlbr.dtype, counts.dtype) == (torch.float32, torch.int32)
        return tlbr[..., 0] > threshold


def network_of(config: Any) -> JDE:
    """A network in bfloat16 without numbers."""
    with GPU:
        model = JDE(config).eval()
    return optimise(model.to(GPU), "bf16")


def pixels() -> torch.Tensor:
    return torch.empty((2, *SIZE, 3), dtype=torch.uint8, device=GPU)


@pytest.mark.parametrize("name", ["small", "darknet53-1088x608"])
def test_network_and_selection_never_wait_for_the_device(name: str) -> None:
    config = CONFIGURATIONS[name]
    network = plain(network_of(config))
    selection = Selection(config, SIZE, Limits(), NoWork(), GPU)
    with recording():
        result = selection(network(pixels()))
    assert (result.shape, result.device) == ((2, selection.width), GPU)


def test_nor_do_the_padded_network_and_its_vectors() -> None:
    config = CONFIGURATIONS["darknet53-1088x608"]
    weights = PaddedWeights(network_of(config), NoWork(), torch.bfloat16)
    network, selection = weights.build(2, *SIZE), Selection(config, SIZE, Limits(), NoWork(), GPU)
    with recording():
        result = selection(network(pixels()))
    assert (result.shape, result.dtype) == ((2, selection.width), torch.float32)


def test_the_plain_decoding_would_be_seen() -> None:
    """What the runner does otherwise brings numbers from the host and asks the device."""
    model = network_of(SMALL)
    maps = model.maps(model.normalise(pixels()))
    with pytest.raises(AssertionError, match="tensor waits for the device"), recording():
        decode(SMALL, maps)
    candidates = decode(SMALL, maps)
    with pytest.raises(AssertionError, match="waits for the device"), recording():
        select(candidates, 0.5, 0.4, 300)

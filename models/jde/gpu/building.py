"""Opens the runner of a network on a GPU: which form of the network it uses, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jde_ray.models.jde.gpu.devices import CudaDevice, Device, HostDevice
from jde_ray.models.jde.gpu.padded import Convolutions, Layer, TorchConvolutions
from jde_ray.models.jde.gpu.padded_network import PaddedWeights, fits
from jde_ray.models.jde.gpu.runner import BATCHES, Network, Runner
from jde_ray.models.jde.gpu.selection import Limits, RawMaps, Selection
from jde_ray.models.jde.network import JDE

if TYPE_CHECKING:
    from jde_ray.models.jde.gpu.triton_convolutions import Tile

_TENSOR_COPIES = (9, 0)  # first architecture that the convolution kernels are written for


def can_run(device: torch.device) -> bool:
    """Whether a runner works there: on a CUDA device with Triton, which torch brings on Linux."""
    return device.type == "cuda" and find_spec("triton") is not None


def uses_kernels(model: JDE) -> bool:
    """Whether a loaded network runs through its own kernels (`PaddedNetwork`).

    That takes the published network with Darknet-53, in bfloat16, on a GPU of compute capability
    9.0 or higher.
    """
    weight = next(model.parameters())
    return (
        can_run(weight.device)
        and weight.dtype == torch.bfloat16
        and fits(model)
        and torch.cuda.get_device_capability(weight.device) >= _TENSOR_COPIES
    )


def batches_of(model: JDE, largest: int) -> tuple[int, ...]:
    """Batch sizes for a network.

    The kernels sum in one order in batches of any size. The libraries' convolutions may not: with
    them all batches have one size, so that no frame's numbers depend on what else was waiting.

    Args:
        model: Loaded network.
        largest: Frames of the largest batch.
    """
    if not uses_kernels(model):
        return (largest,)
    return (*(size for size in BATCHES[:-1] if size < largest), largest)


def open_runner(
    model: JDE,
    limits: Limits,
    batches: Sequence[int] | None = None,
    *,
    kernels: bool | None = None,
    graphs: bool = True,
    choose: Callable[[Layer, int], Tile] | None = None,
) -> Runner:
    """A runner of a network that is on its device and prepared for inference.

    Args:
        model: Prepared by `models.jde.fusion.optimise`. On a CPU all is done in the plain form.
        limits: Thresholds.
        batches: Frames per batch, three numbers at most; None for those of `batches_of`.
        kernels: Whether the network runs through its own kernels; None if it can.
        graphs: Whether work is recorded as CUDA graphs.
        choose: Tiles of the kernels; None for the usual ones.
    """
    weight = next(model.parameters())
    work = convolutions(weight.device, choose)
    if kernels is None:
        kernels = uses_kernels(model)

    def select(height: int, width: int) -> Selection:
        return Selection(model.config, (height, width), limits, work, weight.device)

    build: Callable[[int, int, int], Network] = lambda *_: plain(model)  # noqa: E731
    if kernels:
        build = PaddedWeights(model, work, weight.dtype).build
    device: Device = HostDevice()
    if weight.device.type == "cuda":
        device = CudaDevice(weight.device, graphs=graphs)
    return Runner(build, select, device, batches or batches_of(model, BATCHES[-1]))


def plain(model: JDE) -> Network:
    """The network as its modules compute it."""

    def run(pixels: Tensor) -> RawMaps:
        return RawMaps.of(model.maps(model.normalise(pixels)))

    return run


def convolutions(
    device: torch.device, choose: Callable[[Layer, int], Tile] | None = None
) -> Convolutions:
    """The work of a device: kernels on a GPU, with tiles that `choose` names; torch elsewhere."""
    if device.type != "cuda":
        return TorchConvolutions()
    from jde_ray.models.jde.gpu.triton_convolutions import TritonConvolutions

    return TritonConvolutions() if choose is None else TritonConvolutions(choose)

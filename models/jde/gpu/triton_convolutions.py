"""The convolutions of `models.jde.gpu.padded` by Triton kernels, in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from jde_ray.models.jde.gpu import kernels
from jde_ray.models.jde.gpu.padded import Grid, Layer, Maps

_PIXEL_CELLS = 128  # cells per program of the first layer
_SUPPRESSED = 64  # boxes per tile of suppression


@dataclass(frozen=True)
class Tile:
    """Part of the output that a program computes, and how.

    Attributes:
        cells: Its rows.
        outputs: Its columns.
        warps: Warps of 32 threads that share it.
        stages: Tiles of input under way at once.
    """

    cells: int
    outputs: int
    warps: int
    stages: int


def choose_tile(layer: Layer, num_rows: int) -> Tile:
    """The tile of a layer; measured on an H200 by `jde bench gpu`."""
    if layer.outputs <= 32:
        return Tile(128, 32, 4, 4)
    if layer.outputs <= 64:
        return Tile(128, 64, 4, 4)
    if layer.stride == 2:
        return Tile(128, 128, 8, 3)
    if num_rows < 132 * 256:  # too few tiles of the larger kind for all multiprocessors
        return Tile(128, 128, 8, 3)
    return Tile(256, 128, 8, 3)


class TritonConvolutions:
    """Launches the kernels on the current stream of a CUDA device.

    Args:
        choose: Tile of a layer and a number of rows.
    """

    def __init__(self, choose: Callable[[Layer, int], Tile] = choose_tile) -> None:
        self._choose = choose

    def convolve(self, layer: Layer, source: Maps, out: Maps, added: Maps | None = None) -> None:
        """See `padded.Convolutions`."""
        grid, tile = out.grid, self._choose(layer, out.grid.num_rows)
        if layer.stride == 2:
            self._down(layer, source, out, tile)
            return
        self._run(
            layer, source.storage, out.rows, grid, tile, None if added is None else added.rows
        )

    def convolve_pixels(self, layer: Layer, pixels: Tensor, out: Maps) -> None:
        """See `padded.Convolutions`."""
        grid = out.grid
        self._launch(
            *(kernels.convolve_pixels, -(-grid.num_rows // _PIXEL_CELLS)),
            *(pixels, layer.weights, layer.bias, out.rows, grid.num_rows),
            *(grid.pitch, grid.lines, layer.slope),
            num_outputs=layer.outputs,
            tile_cells=_PIXEL_CELLS,
            num_warps=4,
        )

    def multiply(self, layer: Layer, rows: Tensor) -> Tensor:
        """See `padded.Convolutions`."""
        out = torch.empty((len(rows), layer.outputs), dtype=torch.float32, device=rows.device)
        line = Grid(1, 1, len(rows))  # one line without neighbours
        self._run(layer, rows, out, line, self._choose(layer, len(rows)), None, guard=0)
        return out

    def suppress(self, tlbr: Tensor, counts: Tensor, threshold: float) -> Tensor:
        """See `padded.Convolutions`."""
        kept = torch.zeros(tlbr.shape[:2], dtype=torch.int32, device=tlbr.device)
        arguments = (tlbr, counts, kept, tlbr.shape[1], threshold)
        self._launch(kernels.suppress, len(tlbr), *arguments, tile=_SUPPRESSED, num_warps=8)
        return kept > 0

    def _launch(self, kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
        kernel[(programs,)](*arguments, **options)

    def _run(
        self,
        layer: Layer,
        source: Tensor,
        out: Tensor,
        grid: Grid,
        tile: Tile,
        added: Tensor | None,
        guard: int | None = None,
    ) -> None:
        channels = source.shape[1]
        width = _channels_per_step(channels)
        num_rows = len(out)
        programs = -(-num_rows // tile.cells) * -(-layer.outputs // tile.outputs)
        self._launch(
            *(kernels.convolve, programs),
            TensorDescriptor.from_tensor(source, [tile.cells, width]),
            TensorDescriptor.from_tensor(layer.weights, [tile.outputs, width]),
            *(layer.bias, out if added is None else added, out),
            *(num_rows, channels, layer.outputs, grid.pitch, grid.lines),
            *(grid.guard if guard is None else guard, layer.slope),
            taps=layer.taps,
            has_sum=added is not None,
            tile_cells=tile.cells,
            tile_outputs=tile.outputs,
            tile_channels=width,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )

    def _down(self, layer: Layer, source: Maps, out: Maps, tile: Tile) -> None:
        grid, width = out.grid, _channels_per_step(source.channels)
        programs = -(-grid.num_rows // tile.cells) * -(-layer.outputs // tile.outputs)
        self._launch(
            *(kernels.convolve_down, programs),
            source.rows,
            TensorDescriptor.from_tensor(layer.weights, [tile.outputs, width]),
            *(layer.bias, out.rows, grid.num_rows, layer.outputs),
            *(grid.pitch, grid.lines, layer.slope),
            num_channels=source.channels,
            tile_cells=tile.cells,
            tile_outputs=tile.outputs,
            tile_channels=width,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )


def _channels_per_step(channels: int) -> int:
    """Channels per product: the same for all tiles, so that sums have one order.

    Raises:
        ValueError: If the channels cannot be divided.
    """
    for width in (64, 32, 16):
        if channels % width == 0:
            return width
    raise ValueError(f"channels: got {channels}, expected a multiple of 16")

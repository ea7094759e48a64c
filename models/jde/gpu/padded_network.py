"""The published network (Darknet-53, five-layer trunks) on padded maps.

Batch norms are folded, each convolution's bias, activation and residual sum are part of it, sums
go into their own operand, and appearance vectors are computed only for the boxes that remain,
instead of a dense map of them (8 % of the network's work).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from jde_ray.models.backbones.darknet import DarkNet53, DarkUnit
from jde_ray.models.jde.gpu.padded import Convolutions, Grid, Layer, Maps
from jde_ray.models.jde.gpu.selection import RawMaps
from jde_ray.models.jde.head import PredictionHead
from jde_ray.models.jde.network import JDE

PIXEL_TERMS = 32  # of the first layer: 27 products and 5 zeros, so that they fill one step


def fits(model: JDE) -> bool:
    """Whether `PaddedNetwork` knows the architecture: the published one with Darknet-53."""
    return isinstance(model.backbone, DarkNet53) and model.config.has_published_layout


class _Weights:
    """Layers of a folded network, shared by its batch shapes."""

    def __init__(self, model: JDE, dtype: torch.dtype) -> None:
        def of(block: nn.Module, slope: float = 0.1) -> Layer:
            convolution = block[0] if isinstance(block, nn.Sequential) else block
            return Layer.of(cast("nn.Conv2d", convolution), dtype, slope)

        backbone = cast("DarkNet53", model.backbone)
        stem = of(backbone.stem)
        weights = torch.zeros((stem.outputs, PIXEL_TERMS), device=stem.bias.device)
        first = cast("nn.Conv2d", backbone.stem[0])
        weights[:, :27] = first.weight.detach().float().permute(0, 2, 3, 1).flatten(1) / 255
        self.stem = Layer(weights.to(dtype), stem.bias, 3)
        self.stages: list[tuple[Layer, list[tuple[Layer, Layer]]]] = []
        for stage in backbone.stages:
            down, *units = cast("nn.Sequential", stage)
            pairs = [(of(u.reduce), of(u.expand)) for u in units if isinstance(u, DarkUnit)]
            self.stages.append((of(down), pairs))
        self.trunks = [[of(block) for block in cast("nn.Sequential", t)] for t in model.neck.trunks]
        self.reduce = [of(block) for block in model.neck.reduce]
        heads = [cast("PredictionHead", head) for head in model.heads]
        self.hidden = [of(head.box_hidden) for head in heads]
        self.box = [Layer.exact(head.box, dtype) for head in heads]
        # a vector is a row of nine cells: a 1x1 layer of nine times the channels
        self.embedding = []
        for head in heads:
            layer = of(head.embedding, 1.0)
            self.embedding.append(Layer(layer.weights, layer.bias, 1, 1, 1.0))


class PaddedWeights:
    """Prepares a network once; `build` makes its static maps for a batch shape.

    Args:
        model: Network whose batch norms are folded (`models.jde.fusion.optimise`).
        convolutions: Work of the device.
        dtype: Type of maps and weights.

    Raises:
        ValueError: If the network has another architecture.
    """

    def __init__(self, model: JDE, convolutions: Convolutions, dtype: torch.dtype) -> None:
        if not fits(model):
            raise ValueError(f"network: got {model.config.name}, expected darknet53 as published")
        self._config, self._work, self._dtype = model.config, convolutions, dtype
        self._device = next(model.parameters()).device
        self._weights = _Weights(model, dtype)

    def build(self, batch: int, height: int, width: int) -> PaddedNetwork:
        """The network for `(batch, height, width, 3)` uint8 frames."""
        grids = [Grid(batch, height // side, width // side) for side in (1, 2, 4, 8, 16, 32)]
        return PaddedNetwork(self._weights, self._work, grids, self._maps, self._config.num_anchors)

    def _maps(self, grid: Grid, channels: int, dtype: torch.dtype | None = None) -> Maps:
        return Maps(grid, channels, dtype or self._dtype, self._device)


class PaddedNetwork:
    """One batch shape of a network; all maps are allocated once. Made by `PaddedWeights.build`."""

    def __init__(
        self,
        weights: _Weights,
        work: Convolutions,
        grids: list[Grid],
        maps: Callable[..., Maps],
        num_anchors: int,
    ) -> None:
        self._weights, self._work, self._num_anchors = weights, work, num_anchors
        self._full = maps(grids[0], weights.stem.outputs)
        self._stages = []
        for grid, (down, units) in zip(grids[1:], weights.stages, strict=True):
            self._stages.append((maps(grid, down.outputs), maps(grid, units[0][0].outputs)))
        fine = grids[:2:-1]  # strides 32, 16, 8
        self._narrow = [maps(g, t[0].outputs) for g, t in zip(fine, weights.trunks, strict=True)]
        self._wide = [maps(g, t[1].outputs) for g, t in zip(fine, weights.trunks, strict=True)]
        self._reduced = [maps(g, r.outputs) for g, r in zip(fine, weights.reduce, strict=False)]
        taps = [stage[0].channels for stage in self._stages[3:1:-1]]
        self._joined = [
            maps(grid, reduced.channels + tap)
            for grid, reduced, tap in zip(fine[1:], self._reduced, taps, strict=True)
        ]
        self._box = [
            maps(g, layer.outputs, torch.float32)
            for g, layer in zip(fine, weights.box, strict=True)
        ]

    def __call__(self, pixels: Tensor) -> RawMaps:
        """Raw maps of `(B, H, W, 3)` uint8 frames; valid until the next call.

        Vectors are computed by `RawMaps.embed` from maps that the next call overwrites too.
        """
        weights, work = self._weights, self._work
        work.convolve_pixels(weights.stem, pixels, self._full)
        before = self._full
        for (own, half), (down, units) in zip(self._stages, weights.stages, strict=True):
            work.convolve(down, before, own)
            for reduce, expand in units:
                work.convolve(reduce, own, half)
                work.convolve(expand, half, own, own)
            before = own
        self._pyramid()
        boxes, scores = [], []
        for scale, (hidden, last) in enumerate(zip(weights.hidden, weights.box, strict=True)):
            wide = self._wide[scale]  # as wide as the head's hidden map, and free by now
            work.convolve(hidden, self._narrow[scale], wide)
            work.convolve(last, wide, self._box[scale])
            grid = self._box[scale].grid
            cells = self._box[scale].cells.permute(0, 3, 1, 2)
            raw = cells.reshape(grid.images, self._num_anchors, -1, grid.height, grid.width)
            boxes.append(raw[:, :, :4])
            scores.append(raw[:, :, 4:])
        return RawMaps(tuple(boxes), tuple(scores), self._embed)

    def _pyramid(self) -> None:
        work = self._work
        source = self._stages[4][0]
        for scale, trunk in enumerate(self._weights.trunks):
            if scale:
                reduced, joined = self._reduced[scale - 1], self._joined[scale - 1]
                work.convolve(self._weights.reduce[scale - 1], self._narrow[scale - 1], reduced)
                _join(reduced, self._stages[4 - scale][0], joined)
                source = joined
            narrow, wide = self._narrow[scale], self._wide[scale]
            for place, layer in enumerate(trunk):
                out = wide if place % 2 else narrow
                work.convolve(layer, source, out)
                source = out

    def _embed(self, scale: int, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """`(K, D)` float32 vectors, not normalised, of cells of a scale."""
        maps = self._narrow[scale]
        grid = maps.grid
        row = grid.guard + (image * grid.lines + y) * grid.pitch + x
        shifts = torch.arange(3, device=row.device) - 1
        around = row[:, None] + (shifts[:, None] * grid.pitch + shifts[None, :]).flatten()
        patches = maps.storage[around].flatten(1)
        return self._work.multiply(self._weights.embedding[scale], patches)


def _join(reduced: Maps, tap: Maps, joined: Maps) -> None:
    """Write the coarse map, each cell four times, and the finer one beside it."""
    channels = reduced.channels
    coarse = joined.cells[..., :channels]
    for y in range(2):
        for x in range(2):
            coarse[:, y::2, x::2] = reduced.cells
    joined.cells[..., channels:] = tap.cells

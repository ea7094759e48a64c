"""Maps as matrices with zeros around each image, and the convolutions between them.

A map of B images lies as rows of C channels, one row per cell, line by line, with one column of
zeros after each line and one line of zeros after each image: what lies left of a line's first cell
is the zero after the line before. With as many zeros before the first and after the last cell, each
tap of a 3x3 convolution reads the same rows, shifted by a constant, and no cell needs to know where
it lies. Zeros are written once; convolutions write cells only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Grid:
    """Cells of a map.

    Attributes:
        images: Number of images B.
        height: Lines of cells per image.
        width: Cells per line.
    """

    images: int
    height: int
    width: int

    @property
    def pitch(self) -> int:
        """Rows from a cell to the one below it."""
        return self.width + 1

    @property
    def lines(self) -> int:
        """Lines per image, the line of zeros included."""
        return self.height + 1

    @property
    def num_rows(self) -> int:
        """Rows of all images, zeros included."""
        return self.images * self.lines * self.pitch

    @property
    def guard(self) -> int:
        """Rows of zeros before and after them, as far as a tap can reach."""
        return self.pitch + 1


class Maps:
    """A map of a batch.

    Args:
        grid: Its cells.
        channels: C.
        dtype: Type of its numbers.
        device: Where it lies.

    Attributes:
        storage: `(guard + num_rows + guard, C)`.
    """

    def __init__(self, grid: Grid, channels: int, dtype: torch.dtype, device: torch.device) -> None:
        self.grid, self.channels = grid, channels
        rows = grid.num_rows + 2 * grid.guard
        self.storage = torch.zeros((rows, channels), dtype=dtype, device=device)

    @property
    def rows(self) -> Tensor:
        """`(num_rows, C)` without the guards."""
        return self.storage[self.grid.guard : self.grid.guard + self.grid.num_rows]

    @property
    def cells(self) -> Tensor:
        """`(B, H, W, C)` without any zeros; a view."""
        grid = self.grid
        whole = self.rows.view(grid.images, grid.lines, grid.pitch, self.channels)
        return whole[:, : grid.height, : grid.width]


@dataclass(frozen=True)
class Layer:
    """A convolution with its bias and a leaky ReLU, ready for both implementations.

    Attributes:
        weights: `(outputs, taps * C)`: per tap, line by line, the weights of C channels.
        bias: `(outputs,)` float32.
        kernel: Its side, 1 or 3.
        stride: 1 or 2.
        slope: Of the leaky ReLU below zero; 1 for none, 0 for a plain ReLU.
        parts: Matrices in `weights` whose sum is the weight of a 1x1 convolution: 1, or 3 if a
            float32 weight is kept as three bfloat16 numbers.
    """

    weights: Tensor
    bias: Tensor
    kernel: int
    stride: int = 1
    slope: float = 0.1
    parts: int = 1

    @property
    def outputs(self) -> int:
        """Channels of the result."""
        return len(self.bias)

    @property
    def taps(self) -> int:
        """Products per output and channel."""
        return 9 if self.kernel == 3 else self.parts

    @staticmethod
    def of(convolution: nn.Conv2d, dtype: torch.dtype, slope: float = 0.1) -> Layer:
        """The layer of a folded convolution.

        Raises:
            ValueError: If the convolution has a form that the kernels do not know.
        """
        kernel, stride = convolution.kernel_size[0], convolution.stride[0]
        if kernel not in (1, 3) or convolution.groups != 1 or stride not in (1, kernel // 2 + 1):
            raise ValueError(f"convolution: got {convolution}, expected 1x1 or 3x3 of stride 1, 2")
        weight = convolution.weight.detach().float().permute(0, 2, 3, 1).flatten(1)
        bias = torch.zeros(len(weight), device=weight.device)
        if convolution.bias is not None:
            bias = convolution.bias.detach().float()
        return Layer(weight.to(dtype).contiguous(), bias.contiguous(), kernel, stride, slope)

    @staticmethod
    def exact(convolution: nn.Conv2d, dtype: torch.dtype) -> Layer:
        """A 1x1 convolution without activation, its weights kept to 24 bits.

        In bfloat16 a weight is the sum of three numbers of 8 bits each.
        """
        weight = convolution.weight.detach().float().flatten(1)
        parts = [weight.to(dtype)]
        while dtype != torch.float32 and len(parts) < 3:
            parts.append((weight - sum(part.float() for part in parts)).to(dtype))
        bias = torch.zeros(len(weight), device=weight.device)
        if convolution.bias is not None:
            bias = convolution.bias.detach().float()
        joined = torch.cat(parts, 1).contiguous()
        return Layer(joined, bias.contiguous(), 1, 1, 1.0, len(parts))


class Convolutions(Protocol):
    """The work of a device."""

    def convolve(self, layer: Layer, source: Maps, out: Maps, added: Maps | None = None) -> None:
        """Write a layer's output into `out`, plus `added` after the activation.

        `added` may be `out` itself.
        """
        ...

    def convolve_pixels(self, layer: Layer, pixels: Tensor, out: Maps) -> None:
        """The same from `(B, H, W, 3)` bytes; the layer's weights are `(outputs, 32)`."""
        ...

    def multiply(self, layer: Layer, rows: Tensor) -> Tensor:
        """A 1x1 layer of `(K, C)` rows: `(K, outputs)` float32."""
        ...

    def suppress(self, tlbr: Tensor, counts: Tensor, threshold: float) -> Tensor:
        """`(B, N)` bool: which of each image's first boxes remain, by `models.jde.decode.nms`.

        Args:
            tlbr: `(B, N, 4)` float32 corners in order of falling score.
            counts: `(B,)` int32 boxes per image; what lies behind them is not kept.
            threshold: IoU above which the later box goes.
        """
        ...


class TorchConvolutions:
    """The plain form: what the kernels must compute, on any device."""

    def convolve(self, layer: Layer, source: Maps, out: Maps, added: Maps | None = None) -> None:
        """See `Convolutions`."""
        images = source.cells.permute(0, 3, 1, 2)
        self._write(layer, images, out, added)

    def convolve_pixels(self, layer: Layer, pixels: Tensor, out: Maps) -> None:
        """See `Convolutions`."""
        used = Layer(layer.weights[:, :27].contiguous(), layer.bias, 3, 1, layer.slope)
        self._write(used, pixels.permute(0, 3, 1, 2), out, None)

    def multiply(self, layer: Layer, rows: Tensor) -> Tensor:
        """See `Convolutions`."""
        weights = layer.weights.float().reshape(layer.outputs, layer.parts, -1).sum(1)
        found: Tensor = rows.float() @ weights.T + layer.bias
        return found

    def suppress(self, tlbr: Tensor, counts: Tensor, threshold: float) -> Tensor:
        """See `Convolutions`."""
        from jde_ray.models.suppression import suppress

        kept = torch.zeros(tlbr.shape[:2], dtype=torch.bool)
        for image, count in enumerate(counts.tolist()):
            kept[image, suppress(tlbr[image, :count].cpu().numpy(), threshold)] = True
        return kept.to(tlbr.device)

    def _write(self, layer: Layer, images: Tensor, out: Maps, added: Maps | None) -> None:
        weights = layer.weights.float().reshape(layer.outputs, layer.taps, -1)
        if layer.kernel == 1:
            weights = weights.sum(1)[:, :, None, None]
        else:
            weights = weights.reshape(layer.outputs, 3, 3, -1).permute(0, 3, 1, 2)
        found = F.conv2d(images.float(), weights, layer.bias, layer.stride, layer.kernel // 2)
        if layer.slope != 1:
            found = F.leaky_relu(found, layer.slope)
        found = found.permute(0, 2, 3, 1)
        if added is not None:
            found = found + added.cells
        out.cells.copy_(found)

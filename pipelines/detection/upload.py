"""Frames on their way from the host to the device of a network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class Upload:
    """Uploads frames as bytes from the host to the network's device.

    Uploads to a GPU use one pinned buffer. It can be reused, since the previous frames have arrived
    once their results are on the host.

    Args:
        device: Device of the network.
        pinned: Whether to copy through pinned memory.
    """

    def __init__(self, device: torch.device, *, pinned: bool) -> None:
        self._device, self._pinned = device, pinned
        self._buffer: torch.Tensor | None = None

    def __call__(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """`(T, H, W, 3)` uint8 on the device; with pinned memory valid until the next call."""
        if not self._pinned:
            return torch.tensor(frames).to(self._device)  # copies: Ray's memory is read-only
        if self._buffer is None or self._buffer.numel() < frames.size:
            self._buffer = torch.empty(frames.size, dtype=torch.uint8, pin_memory=True)
        part = self._buffer[: frames.size].view(frames.shape)
        np.copyto(part.numpy(), frames)
        return part.to(self._device, non_blocking=True)

"""Pixels as networks take them: in [0, 1], or as a pretrained backbone wants them."""

from __future__ import annotations

import torch
from torch import Tensor


def from_bytes(frames: Tensor, like: Tensor) -> Tensor:
    """`(B, H, W, 3)` uint8 as `(B, 3, H, W)` in [0, 1], channels last.

    Bytes are uploaded, not floats; the device converts them.

    Args:
        frames: Frames, on any device.
        like: A tensor of the device and number type of the result.
    """
    pixels = frames.to(like.device, non_blocking=True).permute(0, 3, 1, 2)
    return (pixels.float() / 255).to(like.dtype, memory_format=torch.channels_last)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """`(images - mean) / std` of each channel, to the same bits in either memory format.

    Of channels-last images, three numbers at a time are no vectors for a CPU; whole rows are, and
    take a sixth of the time.

    Args:
        images: `(B, C, H, W)`, contiguous or channels last.
        mean: `(1, C, 1, 1)`, of the images' type.
        std: Likewise.

    Returns:
        `(B, C, H, W)` in the images' memory format.
    """
    if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
        return (images - mean) / std
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    minus, over = (values.flatten().repeat(width) for values in (mean, std))
    return ((rows - minus) / over).reshape(batch, height, width, channels).permute(0, 3, 1, 2)

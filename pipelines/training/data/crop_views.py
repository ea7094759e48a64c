"""Random views of crops, made for a whole batch at once on the network's device.

Every view is a function of `NUM_CHANCES` numbers in [0, 1), so that the same numbers give the same
views on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jde_ray.pipelines.training.crop_settings import CropViews

NUM_CHANCES = 24
_COARSE = (2, 3)  # pixels that become one


def make_views(
    pixels: Tensor,
    chances: Tensor,
    views: CropViews,
    context: float,
    size: tuple[int, int],
    sightings: int,
) -> Tensor:
    """`(B, 3, H, W)` float RGB in [0, 1], of the network's input size.

    Args:
        pixels: `(B, 3, h, w)` uint8 crops with their surroundings.
        chances: `(B, NUM_CHANCES)` random numbers in [0, 1).
        views: Ranges of the changes.
        context: Factor by which the crops are larger than their boxes.
        size: Width and height of the result.
        sightings: Crops of one person in a row; those of the next person hide parts of them.
    """
    crops = _placed(pixels, chances[:, :8], views, context, size)
    crops = _coarsened(crops, chances[:, 8:10], views)
    crops = _coloured(crops, chances[:, 10:18], views)
    return _hidden(crops, chances[:, 18:24], views, sightings)


def _spread(chance: Tensor, largest: float) -> Tensor:
    """A number from -largest to largest."""
    return (2 * chance - 1) * largest


def _placed(
    pixels: Tensor, chance: Tensor, views: CropViews, context: float, size: tuple[int, int]
) -> Tensor:
    """The boxes as a detector finds them: shifted, of another size, without feet; some mirrored."""
    x, y = _spread(chance[:, 0], views.shift), _spread(chance[:, 1], views.shift)
    wide = torch.exp(_spread(chance[:, 2], views.resize))
    tall = torch.exp(_spread(chance[:, 3], views.resize))
    left, right = x * 2 - wide, x * 2 + wide  # the box itself is -1 to 1
    top, bottom = y * 2 - tall, y * 2 + tall
    kept = torch.where(chance[:, 4] < views.cut, 0.5 + 0.45 * chance[:, 5], 1.0)
    bottom = top + (bottom - top) * kept
    mirrored = torch.where(chance[:, 6] < views.flip, -1.0, 1.0)
    zero = torch.zeros_like(left)
    across = torch.stack(((right - left) / 2 * mirrored, zero, (left + right) / 2), 1)
    down = torch.stack((zero, (bottom - top) / 2, (top + bottom) / 2), 1)
    theta = torch.stack((across, down), 1) / context
    grid = F.affine_grid(theta, [len(pixels), 3, size[1], size[0]], align_corners=False)
    source = pixels.float() / 255
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False)


def _coarsened(crops: Tensor, chance: Tensor, views: CropViews) -> Tensor:
    """Some crops as if their people were small."""
    height, width = crops.shape[2:]
    which = (chance[:, 1] * len(_COARSE)).long()
    is_coarse = chance[:, 0] < views.coarse
    for number, factor in enumerate(_COARSE):
        rows = (is_coarse & (which == number)).nonzero()[:, 0]
        if not len(rows):
            continue
        small = F.interpolate(crops[rows], (height // factor, width // factor), mode="area")
        coarse = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        crops = crops.index_copy(0, rows, coarse)
    return crops


def _coloured(crops: Tensor, chance: Tensor, views: CropViews) -> Tensor:
    """Other light and another camera: gamma, brightness, contrast, saturation, tint."""

    def column(number: int, largest: float) -> Tensor:
        return torch.exp(_spread(chance[:, number], largest))[:, None, None, None]

    crops = crops.clamp(min=1e-4) ** column(0, views.light / 2)
    crops = crops * column(1, views.light)
    mean = crops.mean((1, 2, 3), keepdim=True)
    crops = (crops - mean) * column(2, views.light) + mean
    low, high = views.saturation
    saturation = (low + (high - low) * chance[:, 3])[:, None, None, None]
    grey = crops.mean(1, keepdim=True)
    crops = (crops - grey) * saturation + grey
    tint = torch.exp(_spread(chance[:, 4:7], views.tint))[:, :, None, None]
    return (crops * tint).clamp(0, 1)


def _hidden(crops: Tensor, chance: Tensor, views: CropViews, sightings: int) -> Tensor:
    """A rectangle of some crops behind a plain colour or a part of another person.

    Half of the rectangles reach from the feet upwards or from one side inwards, as people and
    things stand before each other.
    """
    height, width = crops.shape[2:]
    row = torch.arange(height, device=crops.device)[None, :, None] / height
    column = torch.arange(width, device=crops.device)[None, None, :] / width
    largest = views.largest_hidden
    tall = (0.15 + (largest - 0.15) * chance[:, 1])[:, None, None]
    wide = (0.15 + (largest - 0.15) * chance[:, 2])[:, None, None]
    top, left = chance[:, 3, None, None] * (1 - tall), chance[:, 4, None, None] * (1 - wide)
    inside = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    kind = chance[:, 5, None, None]
    below = row >= 1 - tall
    aside = torch.where(left < (1 - wide) / 2, column < wide, column >= 1 - wide)
    inside = torch.where(kind < 0.5, inside, torch.where(kind < 0.75, below, aside))
    mask = (inside & (chance[:, 0, None, None] < views.erase))[:, None]
    others = crops.roll(sightings, 0)
    plain = torch.stack([(chance[:, 3] * factor) % 1 for factor in (7.0, 11.0, 13.0)], 1)
    is_plain = (chance[:, 2] * 1000) % 2 < 1
    cover = torch.where(is_plain[:, None, None, None], plain[:, :, None, None], others)
    return torch.where(mask, cover, crops)

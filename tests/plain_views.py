"""Views of crops without a random change."""

import torch

from jde_ray.pipelines.training.crop_settings import CropViews
from jde_ray.pipelines.training.data.crop_views import NUM_CHANCES, make_views

PLAIN = CropViews(
    shift=0, resize=0, cut=0, flip=0, light=0, tint=0, saturation=(1, 1), coarse=0, erase=0
)


def as_found(pixels, context, size):
    """The boxes themselves: `(B, 3, H, W)` in [0, 1]."""
    chances = torch.full((len(pixels), NUM_CHANCES), 0.5, device=pixels.device)
    return make_views(pixels, chances, PLAIN, context, size, 1)

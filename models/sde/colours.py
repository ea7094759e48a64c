"""Appearance without a network: the colours of a person from head to feet.

A crop is cut into stripes. Of each, a histogram of the lightness and one of the colours is kept, in
which a pixel counts for the bins on either side of its value, and for less the farther it is from
the middle of the crop. Within one scene this tells people apart about as well as what a joint
network has learned elsewhere; nothing is learned, so nobody's licence applies. Histograms of
stripes are an old description of people (Gray and Tao 2008, among others).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

STRIPES = 4
LIGHTNESS_BINS, COLOUR_BINS = 16, 5  # the latter along each of the two axes of Lab
_WIDTH, _HEIGHT = 16, 48  # of the crops that are described; larger ones tell no more
_MOST_COLOUR = 25.0  # values of a and b beyond it count for the last bin
_SPREAD = 0.375  # standard deviation of the weights from left to right, in half widths
# the first is raised when rows change in another way, such as by the share of these vectors
SETTINGS = (2, STRIPES, LIGHTNESS_BINS, COLOUR_BINS, _WIDTH, _HEIGHT, _MOST_COLOUR, _SPREAD)


class ColourStripes:
    """Describes crops by the colours of `STRIPES` stripes, as a `CropNetwork` of `models.sde`.

    Attributes:
        size: Width and height of the crops that it takes.
        batch: None, since it takes any number at once.
        path: Its name, for error messages.
        outputs: Names of its outputs.
    """

    size = (_WIDTH, _HEIGHT)
    batch: int | None = None
    path = Path("colours")
    outputs: tuple[str, ...] = ("colours",)

    def __init__(self) -> None:
        across = (np.arange(_WIDTH) + 0.5) / _WIDTH * 2 - 1
        down = (np.arange(_HEIGHT) + 0.5) / _HEIGHT * 2 - 1
        weight = np.exp(-(across**2) / (2 * _SPREAD**2)) * np.exp(-(down**6))[:, None]
        weight = weight.reshape(STRIPES, -1)
        self._weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture `(h, w, 3)` at the size that is described."""
        return np.asarray(cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """`(N, D)` float32 square roots of the histograms, of RGB pictures of that size."""
        count = len(pictures)
        tall = np.concatenate(pictures).astype(np.float32)
        tall *= np.float32(1 / 255)
        lab = np.asarray(cv2.cvtColor(tall, cv2.COLOR_RGB2Lab), np.float32)
        light, green_red, blue_yellow = lab.reshape(count, STRIPES, -1, 3).transpose(3, 0, 1, 2)
        lightness = _shares(light * np.float32(1 / 100), LIGHTNESS_BINS) @ self._weight[..., None]
        green_red, blue_yellow = (
            _shares(axis * np.float32(0.5 / _MOST_COLOUR) + np.float32(0.5), COLOUR_BINS)
            for axis in (green_red, blue_yellow)
        )
        green_red *= self._weight[:, None]
        colours = green_red @ blue_yellow.swapaxes(-1, -2)
        histograms = [part.reshape(count, STRIPES, -1) for part in (lightness, colours)]
        # of histograms that sum to 1: the product of two is their overlap (Bhattacharyya)
        return [np.sqrt(np.concatenate(histograms, axis=2)).reshape(count, -1)]


def _shares(values: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """`(n, STRIPES, bins, pixels)` share of each bin in pixels, from values in [0, 1].

    A pixel counts for the bins on either side of its value, and for the nearer one more.
    """
    place = np.clip(values, 0, 1)[:, :, None] * np.float32(bins - 1)
    share: NDArray[np.float32] = place - np.arange(bins, dtype=np.float32)[:, None]
    np.abs(share, out=share)
    np.subtract(1, share, out=share)
    np.maximum(share, 0, out=share)
    return share
